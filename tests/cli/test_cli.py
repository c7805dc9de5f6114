from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme
from click.testing import CliRunner, Result

from mailserver.accounts import scram_keys, verify_password
from mailserver.cli import main
from mailserver.config.loader import load_accounts
from mailserver.config.reference import page
from mailserver.mail import Address, Content, DeliverBy, Envelope, MailParameters, Recipient, Reply, parse_mailbox
from mailserver.queue import Attempted, NewEntry, Queue
from tests.support.configs import ACCOUNTS, MINIMAL, SECRET_HASH, write_configuration


class Command:
    """`mailserver --config ...` on a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = write_configuration(directory)

    def run(self, *arguments: str, stdin: str | bytes = "") -> Result:
        result = CliRunner().invoke(main, ["--config", str(self.path), *arguments], input=stdin)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    def good(self, *arguments: str, stdin: str = "") -> str:
        result = self.run(*arguments, stdin=stdin)
        assert (result.exit_code, result.stderr) == (0, "")
        return result.stdout

    def refused(self, *arguments: str, stdin: str | bytes = "") -> str:
        result = self.run(*arguments, stdin=stdin)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith("mailserver: ")
        return result.stderr.strip()

    def password_of(self, address: str) -> str:
        return load_accounts(self.directory / "accounts.toml").account[address].password


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


# Configuration


def test_config_check_of_a_good_configuration(command: Command) -> None:
    assert command.good("config", "check") == f"{command.path}: the configuration is good\n"


def test_config_check_warns_of_what_is_no_fault(command: Command) -> None:
    write_configuration(command.directory, accounts="")
    result = command.run("config", "check")
    assert (result.exit_code, result.stdout) == (0, f"{command.path}: the configuration is good\n")
    lines = result.stderr.splitlines()
    assert len(lines) == 2 and all(line.startswith("mailserver: warning: ") for line in lines)
    assert "`mailserver domain add NAME`" in lines[0]


def test_config_check_refuses_an_expired_certificate(command: Command) -> None:
    issued = trustme.CA().issue_cert("mail.example.org", not_after=datetime(2020, 1, 1, tzinfo=UTC))
    issued.private_key_and_cert_chain_pem.write_to_path(str(command.directory / "all.pem"))
    tls = '[tls]\ncertificate = "all.pem"\nprivate_key = "all.pem"\n'
    write_configuration(command.directory, MINIMAL + tls)
    assert "all.pem expired on 2020-01-01; renew it" in command.refused("config", "check")


def test_config_check_tells_every_problem_on_standard_error(command: Command) -> None:
    write_configuration(command.directory, MINIMAL + "a = 1\nb = 2\n", "x = 1\n")
    lines = command.refused("config", "check").splitlines()
    assert len(lines) == 3
    assert all(line.startswith(f"mailserver: {command.directory}/") for line in lines)


def test_config_reference_is_the_page_in_docs(command: Command) -> None:
    assert command.good("config", "reference") == page()


def test_the_configuration_comes_from_the_environment(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAILSERVER_CONFIG", str(command.path))
    result = CliRunner().invoke(main, ["domain", "list", "--json"])
    assert [entry["domain"] for entry in json.loads(result.stdout)] == ["example.org", "example.net"]


def test_a_configuration_that_is_missing_is_told_in_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["--config", str(tmp_path / "x.toml"), "account", "list"])
    assert (result.exit_code, result.stderr) == (1, f"mailserver: {tmp_path}/x.toml: does not exist\n")


# Accounts, aliases, domains


def test_an_account_with_a_password_from_standard_input(command: Command) -> None:
    said = command.good("account", "add", "carol@example.org", "--password-stdin", stdin=" pass word \n")
    assert said == "carol@example.org is added; a running server takes it over within a second or two\n"
    assert verify_password(command.password_of("carol@example.org"), " pass word ")


def test_a_new_password_from_standard_input(command: Command) -> None:
    said = command.good("account", "passwd", "bob@example.org", "--password-stdin", stdin="pass word\n")
    assert said == "bob@example.org has a new password; a running server takes it over within a second or two\n"
    assert verify_password(command.password_of("bob@example.org"), "pass word")


def test_keys_for_scram_where_the_configuration_wants_them(command: Command) -> None:
    command.good("account", "passwd", "bob@example.org", "--password-stdin", stdin="new-secret\n")
    assert scram_keys(command.password_of("bob@example.org")) is None
    command.path.write_text(MINIMAL + "[auth]\nscram = true\n")
    command.good("account", "passwd", "bob@example.org", "--password-stdin", stdin="new-secret\n")
    assert scram_keys(command.password_of("bob@example.org")) is not None
    assert verify_password(command.password_of("bob@example.org"), "new-secret")


def test_an_account_whose_mailbox_is_there_already(command: Command) -> None:
    maildir = command.directory / "data" / "mail" / "example.org" / "carol"
    maildir.mkdir(parents=True)
    said = command.good("account", "add", "Carol@example.org", "--password-stdin", stdin="pass word\n")
    assert f"{maildir} was there already: the mail in it belongs to Carol@example.org now\n" in said


def test_a_mailbox_that_may_not_be_looked_at_does_not_matter(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bool:
        raise PermissionError

    monkeypatch.setattr("mailserver.cli.accounts.Path.exists", refuse)
    assert "is added" in command.good("account", "add", "carol@example.org", "--password-stdin", stdin="pass word\n")


def test_a_generated_password_is_printed_and_works(command: Command) -> None:
    result = command.run("account", "passwd", "bob@example.org", "--generate")
    assert result.exit_code == 0 and "has a new password" in result.stderr
    password = result.stdout
    assert re.fullmatch(r"[a-z0-9-]{23}\n", password)
    assert verify_password(command.password_of("bob@example.org"), password.strip())


def test_no_password_is_guessed_without_a_terminal(command: Command) -> None:
    assert "--password-stdin or --generate" in command.refused("account", "passwd", "bob@example.org")
    assert command.password_of("bob@example.org") == SECRET_HASH


@pytest.mark.parametrize("stdin", ["", "\n", "sieben7\n", "abcdefg\0hi\n", b"\xff\n"])
def test_passwords_that_cannot_be_set(command: Command, stdin: str | bytes) -> None:
    assert "password" in command.refused("account", "passwd", "bob@example.org", "--password-stdin", stdin=stdin)
    assert command.password_of("bob@example.org") == SECRET_HASH


def _at_terminal(command: Command, answers: list[bytes], *arguments: str) -> tuple[int, bytes]:
    """Runs the command at a terminal, answers each question when it stands there; gives status and what was shown."""
    ours, its = pty.openpty()
    code = "from mailserver.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "--config", str(command.path), *arguments],
        cwd=Path(__file__).parents[2],
        stdin=its,
        stdout=its,
        stderr=its,
        start_new_session=True,
    )
    os.close(its)
    shown = b""
    while select.select([ours], [], [], 20)[0]:
        try:
            shown += os.read(ours, 4096)
        except OSError:  # Linux: the other side is closed
            break
        if shown.endswith(b": ") and answers:
            os.write(ours, answers.pop(0) + b"\n")
    os.close(ours)
    return process.wait(20), shown


def test_a_terminal_is_asked_twice(command: Command) -> None:
    status, shown = _at_terminal(command, [b"typed twice", b"typed twice"], "account", "passwd", "bob@example.org")
    done = b"bob@example.org has a new password; a running server takes it over within a second or two"
    assert (status, shown.split(b"\r\n")) == (0, [b"Password: ", b"Repeat for confirmation: ", done, b""])
    assert verify_password(command.password_of("bob@example.org"), "typed twice")


def test_the_list_of_accounts(command: Command) -> None:
    assert json.loads(command.good("account", "list", "--json")) == [
        {
            "address": "alice@example.org",
            "aliases": ["info@example.org", "alice@example.net"],
            "quota": 5 * 2**30,
            "quota_messages": None,
        },
        {"address": "bob@example.org", "aliases": [], "quota": None, "quota_messages": None},
    ]
    header, alice, bob = command.good("account", "list").splitlines()
    assert header.split() == ["ACCOUNT", "QUOTA", "ALIASES"]
    assert alice.split(maxsplit=3) == ["alice@example.org", "5", "GiB", "info@example.org, alice@example.net"]
    assert bob.split() == ["bob@example.org", "-", "-"]
    assert "argon2" not in command.good("account", "list", "--json")


def test_a_removed_account_leaves_its_mail(command: Command) -> None:
    maildir = command.directory / "data" / "mail" / "example.org" / "alice"
    (maildir / "new").mkdir(parents=True)
    assert str(maildir) in command.good("account", "remove", "alice@example.org")
    assert (maildir / "new").is_dir()
    assert list(load_accounts(command.directory / "accounts.toml").account) == ["bob@example.org"]


def test_aliases(command: Command) -> None:
    command.good("alias", "add", "b@example.net", "bob@example.org")
    command.good("alias", "remove", "info@example.org")
    assert json.loads(command.good("alias", "list", "--json")) == [
        {"address": "alice@example.net", "account": "alice@example.org"},
        {"address": "b@example.net", "account": "bob@example.org"},
    ]
    assert command.good("alias", "list").splitlines()[1].split() == ["alice@example.net", "alice@example.org"]


def test_domains_from_nothing_to_a_working_account(command: Command) -> None:
    (command.directory / "accounts.toml").unlink()
    assert "domain add" in command.refused("account", "list")
    command.good("domain", "add", "Example.com")
    command.good("account", "add", "me@example.com", "--password-stdin", stdin="pass word\n")
    assert command.good("domain", "list").splitlines()[1].split() == ["example.com", "-"]
    command.good("account", "remove", "me@example.com")
    assert "A running server keeps it" in command.good("domain", "remove", "example.com")
    assert command.good("domain", "list", "--json") == "[]\n"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("account add bob@example.org --generate", "bob@example.org is an account already"),
        ("account add x@other.example --generate", "there is no domain other.example; add it first"),
        ("account add bob", "'bob' is not a mail address: the address has no domain"),
        ("account passwd x@example.org --generate", "there is no account x@example.org"),
        ("account remove x@example.org", "there is no account x@example.org"),
        ("account remove bob@example.org", "bob@example.org is the catch_all of example.net; change that first"),
        ("alias add bob@example.org alice@example.org", "bob@example.org is an account already"),
        ("alias remove x@example.org", "there is no alias x@example.org"),
        ("domain add example.org", "the domain example.org is there already"),
        ("domain add example..org", "'example..org' is not a domain name"),
        ("domain remove example.org", "the domain example.org has addresses still"),
        ("queue show nothing", "no entry nothing in the queue"),
        ("queue flush nothing", "no entry nothing in the queue"),
        ("queue remove nothing", "no entry nothing in the queue"),
    ],
)
def test_errors_are_one_line_and_change_nothing(command: Command, arguments: str, complaint: str) -> None:
    error = command.refused(*arguments.split())
    assert complaint in error and "\n" not in error
    assert (command.directory / "accounts.toml").read_text() == ACCOUNTS


@pytest.mark.parametrize(
    "arguments",
    [
        "nothing",
        "account add",
        "account list --bogus",
        "queue hold",
        "queue hold x --all",
        "account add a@b.c --generate --password-stdin",
    ],
)
def test_what_is_not_understood_ends_with_status_2(command: Command, arguments: str) -> None:
    result = command.run(*arguments.split())
    assert result.exit_code == 2
    assert "Traceback" not in result.stderr and "Error: " in result.stderr


def test_a_directory_that_cannot_be_written_is_told_in_one_line(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(command.directory))

    monkeypatch.setattr("mailserver.accounts.editor.replace_text", fail)
    assert command.refused("domain", "add", "b.example") == f"mailserver: {command.directory}: Permission denied"


def test_the_command_as_a_process(command: Command) -> None:
    code = "from mailserver.cli import main; main()"
    environment = {**os.environ, "MAILSERVER_CONFIG": str(command.path), "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", code, "domain", "remove", "x"], env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "mailserver: there is no domain x\n")


# Queue


@pytest.fixture
def ids(command: Command) -> list[str]:
    """Two entries; the first was tried once."""
    queue = Queue(command.directory / "data" / "queue")
    entries = [
        NewEntry(
            Envelope(parse_mailbox("alice@example.org"), (Recipient(parse_mailbox("x@far.example")),)),
            Content(b"Subject: x\r\n\r\nText\r\n"),
            b"Received: x\r\n",
            1_700_000_000.0,
        ),
        NewEntry(
            Envelope(None, (Recipient(parse_mailbox("y@far.example")), Recipient(parse_mailbox("z@far.example")))),
            Content(b"\r\nText\r\n"),
            b"",
            1_700_000_100.0,
        ),
    ]
    ids = [id for id in queue.add(entries) if isinstance(id, str)]
    (tried,) = queue.show(ids[0]).recipients
    later = type(tried)(
        number=tried.number,
        address=tried.address,
        original=None,
        next_attempt=4_000_000_000.0,
        last_attempt=1_700_000_300.0,
        attempts=1,
        reply=Reply.of(450, "4.2.1", "Come \x1b[2J later\u202e"),
        host="mx.far.example",
    )
    queue.record([Attempted(ids[0], keep=[later])])
    queue.close()
    return ids


def test_an_empty_queue_is_not_made_by_looking_at_it(command: Command) -> None:
    assert command.good("queue", "list") == "The queue is empty.\n"
    assert command.good("queue", "list", "--json") == "[]\n"
    assert command.good("queue", "flush") == "0 entries to be tried now\n"
    assert not (command.directory / "data").exists()


def test_the_list_of_the_queue(command: Command, ids: list[str]) -> None:
    _, first, second, third = command.good("queue", "list").splitlines()
    assert first.split()[0] == ids[0] and "alice@example.org" in first and "450 4.2.1 Come" in first
    assert re.search(r"in \d+ d  450 4\.2\.1 Come", first)
    assert second.split()[0] == ids[1] and "<>" in second and "y@far.example" in second
    assert third.split() == ["z@far.example", "now", "-"]
    command.good("queue", "hold", ids[0])
    _, first, *_ = command.good("queue", "list").splitlines()
    assert "x@far.example  -  " in re.sub(" {3,}", "  ", first)


def test_a_long_answer_is_cut_visibly_in_the_list(command: Command, ids: list[str]) -> None:
    queue = Queue(command.directory / "data" / "queue")
    (recipient,) = queue.show(ids[0]).recipients
    queue.record([Attempted(ids[0], keep=[replace(recipient, reply=Reply.of(450, "4.2.1", "x" * 300))])])
    queue.close()
    _, first, *_ = command.good("queue", "list").splitlines()
    assert first.endswith("450 4.2.1 " + "x" * 87 + "...")
    assert "x" * 300 in command.good("queue", "show", ids[0])


def test_nothing_that_a_remote_said_reaches_the_terminal_as_a_command(command: Command, ids: list[str]) -> None:
    for output in (command.good("queue", "list"), command.good("queue", "show", ids[0])):
        assert "Come" in output
        assert all(c.isprintable() or c == "\n" for c in output)


def test_one_entry_in_full(command: Command, ids: list[str]) -> None:
    output = command.good("queue", "show", ids[0])
    assert f"{ids[0]}: queued" in output
    assert "to x@far.example: 1 attempt, the last 2023-11-14T22:18:20+00:00: 450 4.2.1" in output
    assert "from mx.far.example; next attempt 2096-10-02T07:06:40+00:00" in output
    assert "not tried yet" in command.good("queue", "show", ids[1])
    entry = json.loads(command.good("queue", "show", ids[0], "--json"))
    assert entry == json.loads(command.good("queue", "list", "--json"))[0]
    assert (entry["id"], entry["state"], entry["sender"]) == (ids[0], "queued", "alice@example.org")
    assert entry["recipients"][0]["host"] == "mx.far.example"


def test_what_its_sender_wants_to_be_held(command: Command, ids: list[str]) -> None:
    queue = Queue(command.directory / "data" / "queue")
    envelope = Envelope(None, (Recipient(Address("x", "far.example")),), MailParameters(release=4_000_000_000.0))
    (id,) = queue.add([NewEntry(envelope, Content(b"x"), b"", 1_700_000_000.0)])
    queue.close()
    assert "not before 2096-10-02T07:06:40+00:00, as the sender asked\n" in command.good("queue", "show", str(id))
    assert json.loads(command.good("queue", "show", str(id), "--json"))["release"] == "2096-10-02T07:06:40+00:00"
    assert command.good("queue", "flush") == "2 entries to be tried now\n"
    assert command.good("queue", "flush", str(id)) == "1 entry to be tried now\n"


def test_what_its_sender_asks_for_a_message(command: Command, ids: list[str]) -> None:
    by = DeliverBy(4_000_000_000.0, returned=True)
    asked = MailParameters(deliver_by=by, priority=3)
    queue = Queue(command.directory / "data" / "queue")
    envelope = Envelope(None, (Recipient(Address("x", "far.example")),), asked)
    (id,) = queue.add([NewEntry(envelope, Content(b"x"), b"", 1_700_000_000.0)])
    queue.close()
    shown = command.good("queue", "show", str(id))
    assert "by 2096-10-02T07:06:40+00:00, as the sender asked, or it goes back\npriority 3\n" in shown
    data = json.loads(command.good("queue", "show", str(id), "--json"))
    assert (data["deliver_by"], data["returned_if_late"], data["priority"]) == ("2096-10-02T07:06:40+00:00", True, 3)


def test_hold_release_flush_and_remove(command: Command, ids: list[str]) -> None:
    def state() -> dict[str, str]:
        return {entry["id"]: entry["state"] for entry in json.loads(command.good("queue", "list", "--json"))}

    assert command.good("queue", "hold", ids[0]) == "1 entry held\n"
    assert state() == {ids[0]: "held", ids[1]: "queued"}
    assert command.refused("queue", "flush", ids[1], ids[0]) == (
        f"mailserver: {ids[0]} is held; `mailserver queue release {ids[0]}` lets it go first"
    )
    assert command.good("queue", "flush") == "1 entry to be tried now\n"
    assert command.good("queue", "release", "--all") == "1 entry released\n"
    assert command.good("queue", "flush", ids[0]) == "1 entry to be tried now\n"
    assert "next attempt now" in command.good("queue", "show", ids[0])
    assert command.good("queue", "flush") == "2 entries to be tried now\n"
    assert f"no entry x{ids[1]}" in command.refused("queue", "remove", ids[0], f"x{ids[1]}")
    assert command.good("queue", "remove", ids[0]) == "1 entry removed\n"
    assert state() == {ids[1]: "queued"}


def test_a_queue_that_cannot_be_opened_is_told_in_one_line(command: Command) -> None:
    (command.directory / "data" / "queue" / "queue.db").mkdir(parents=True)
    assert "\n" not in command.refused("queue", "list")
