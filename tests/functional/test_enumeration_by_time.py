"""A real server tells by no answer and by no time which users there are, in any protocol.

Time is the processor time of the server, in which all of its work shows and that of others does not. Where one round
seems to tell the kinds of users apart there are more, in which they take turns, and the least of each counts: what else
the server does only adds.
"""

from __future__ import annotations

import base64
import itertools
import os
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mailserver.accounts import AccountsFile
from mailserver.mail import parse_mailbox
from tests.support.server import ALICE, DOMAIN, PASSWORD, RunningServer

APP, DISABLED, OLD = f"app@{DOMAIN}", f"disabled@{DOMAIN}", f"old@{DOMAIN}"
USERS = (ALICE, APP, DISABLED, OLD, f"nobody@{DOMAIN}", "nobody@elsewhere.example")
OLD_HASH = "{SSHA}iyfwO0lm5C5cJ5HCzJWxuuBdMSthYmNkZWZnaA=="
ROUNDS = 3  # at most: twenty failures make an account wait
SOURCES = itertools.count(256)  # each login comes from its own address: failures delay the next answer to one


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    server = RunningServer(
        tmp_path_factory.mktemp("server"), costly=True, accounts={ALICE: [], APP: [], DISABLED: [], OLD: []}
    )
    path = server.directory / "accounts.toml"
    AccountsFile(path).set_disabled(parse_mailbox(DISABLED), "keep")
    AccountsFile(path).set_password(parse_mailbox(OLD), OLD_HASH)
    AccountsFile(path).add_app_password(parse_mailbox(APP), "phone", ("imap",))
    header = f'[account."{APP}"]\n'
    text = path.read_text()
    assert header in text
    path.write_text(text.replace(header, f"{header}app_passwords_only = true\n"))
    with server:
        yield server


def talk(port: int, *said: str) -> tuple[bytes, ...]:
    """One answer to the greeting and to each of these lines."""
    number = next(SOURCES)
    source = f"127.0.{number >> 8}.{number & 255}"
    with socket.create_connection(("127.0.0.1", port), 60, source_address=(source, 0)) as connection:
        connection.settimeout(60)
        file = connection.makefile("rb")
        file.readline()
        answers = []
        for line in said:
            connection.sendall(f"{line}\r\n".encode())
            answers.append(file.readline())
            while answers[-1][3:4] == b"-":
                answers[-1] = file.readline()
        return tuple(answers)


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def attempts(server: RunningServer, user: str, password: str) -> Sequence[tuple[bytes, ...]]:
    """One in each protocol and way, all at the same time; what was answered."""
    ports, plain = server.ports, encoded(f"\0{user}\0{password}")
    ways = [
        (ports.submission, "EHLO client.test", f"AUTH PLAIN {plain}"),
        (ports.submission, "EHLO client.test", "AUTH LOGIN", encoded(user), encoded(password)),
        (ports.pop3, f"USER {user}", f"PASS {password}"),
        (ports.pop3, f"AUTH PLAIN {plain}"),
        (ports.imap, f'a LOGIN "{user}" "{password}"'),
        (ports.imap, f"a AUTHENTICATE PLAIN {plain}"),
    ]
    with ThreadPoolExecutor(len(ways)) as pool:
        return [*pool.map(lambda way: talk(*way), ways)]


def processor_time(server: RunningServer) -> float:
    assert server.process is not None
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.slow
def test_users_are_told_apart_neither_by_answer_nor_by_time(server: RunningServer) -> None:
    times: dict[str, list[float]] = {user: [] for user in USERS}
    answers: dict[str, Sequence[tuple[bytes, ...]]] = {}
    attempts(server, "warm@up.example", "wrong")
    for number in range(ROUNDS):
        for user in USERS[number % len(USERS) :] + USERS[: number % len(USERS)]:
            before = processor_time(server)
            answers[user] = attempts(server, user, "wrong")
            times[user].append(processor_time(server) - before)
        least = [min(measured) for measured in times.values()]
        if max(least) < 1.3 * min(least):
            break
    said = answers[ALICE]
    assert [each[-1] for each in said] == [
        b"535 5.7.8 authentication failed\r\n",
        b"535 5.7.8 authentication failed\r\n",
        b"-ERR [AUTH] authentication failed\r\n",
        b"-ERR [AUTH] authentication failed\r\n",
        b"a NO [AUTHENTICATIONFAILED] authentication failed\r\n",
        b"a NO [AUTHENTICATIONFAILED] authentication failed\r\n",
    ]
    for user in USERS:
        assert answers[user] == said, user
    assert max(least) < 1.5 * min(least), times
    assert min(least) > 6 * 0.02, "no hashes were computed at all"


def test_the_right_password_of_who_may_not_use_it_is_a_wrong_one(server: RunningServer) -> None:
    wrong = attempts(server, ALICE, "wrong")
    for user in (APP, DISABLED, f"nobody@{DOMAIN}"):
        assert attempts(server, user, PASSWORD) == wrong
    assert b"235 2.7.0 Authenticated\r\n" in attempts(server, ALICE, PASSWORD)[0]
