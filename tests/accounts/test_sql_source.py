"""A database as a source, the same tests against SQLite and a real PostgreSQL."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import VerifyMismatchError

from mailserver.accounts import Directory, Disabled, FileSource, Mailbox, Members, NotLocal, SourceDown, Unknown
from mailserver.accounts.cached import FurtherSource
from mailserver.accounts.sources import open_source
from mailserver.config.directory import DirectorySource
from mailserver.mail import UNLIMITED, Address, Quota, parse_mailbox
from tests.support import postgres
from tests.support.configs import ACCOUNTS, SECRET, SECRET_HASH
from tests.support.sink import wait_until

SHA = "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="  # of SECRET
A = parse_mailbox

SCHEMA = f"""
CREATE TABLE domains (name TEXT PRIMARY KEY, catch_all TEXT, postmaster TEXT);
CREATE TABLE users (name TEXT, domain TEXT, password TEXT, quota TEXT, forward TEXT, keep_copy INTEGER,
                    disabled TEXT, send_as TEXT, messages_per_day INTEGER);
CREATE TABLE aliases (address TEXT, member TEXT);
INSERT INTO domains VALUES ('sql.example', NULL, 'carol@sql.example'), ('all.example', 'carol@sql.example', NULL);
INSERT INTO users VALUES
  ('carol', 'sql.example', '{SHA}', '5 GiB', 'x@elsewhere.example, y@elsewhere.example', 0,
   NULL, '*@all.example', 100),
  ('dave', 'sql.example', '{SECRET_HASH}', '1000', NULL, NULL, NULL, NULL, NULL),
  ('erin', 'sql.example', '{SHA}', NULL, NULL, NULL, 'refuse', NULL, NULL),
  ('fay', 'sql.example', NULL, NULL, NULL, NULL, '0', NULL, NULL),
  ('odd', 'sql.example', '{SHA}', 'much', NULL, NULL, NULL, NULL, NULL),
  ('twice', 'sql.example', '{SHA}', NULL, NULL, NULL, NULL, NULL, NULL),
  ('twice', 'sql.example', '{SHA}', NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO aliases VALUES
  ('team@sql.example', 'carol@sql.example, dave@sql.example'), ('team@sql.example', 'x@elsewhere.example'),
  ('bad@sql.example', 'no address');
"""

QUERIES = {
    "domain_query": "SELECT catch_all, postmaster FROM domains WHERE name = :domain",
    "account_query": "SELECT name || '@' || domain AS address, u.* FROM users u "
    "WHERE name = :local AND domain = :domain",
    "alias_query": "SELECT member FROM aliases WHERE address = :address",
    "renew_query": "UPDATE users SET password = :password "
    "WHERE name = :local AND domain = :domain AND password = :former",
}


@dataclass
class Place:
    """A database with the tables above. `settings` lead to it."""

    settings: dict[str, Any]
    sql: Callable[[str], str]

    def source(self, **more: Any) -> FurtherSource:
        return open_source(DirectorySource.model_validate({"kind": "sql", **self.settings, **QUERIES, **more}))

    def directory(self, tmp_path: Path, **more: Any) -> Directory:
        (tmp_path / "accounts.toml").write_text(ACCOUNTS)
        return Directory(FileSource(tmp_path / "accounts.toml"), others=[self.source(**more)])


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Postgres]:
    if reason := postgres.missing():
        pytest.skip(reason)
    with postgres.Postgres() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "sqlite":
        path = tmp_path / "users.db"
        path.touch()
        found = Place({"file": str(path)}, lambda text: _sqlite(path, text))
    else:
        running: postgres.Postgres = request.getfixturevalue("server")
        found = Place({"database": running.url, "password_file": str(running.password_file)}, running.sql)
        found.sql("DROP TABLE IF EXISTS domains; DROP TABLE IF EXISTS users; DROP TABLE IF EXISTS aliases")
    found.sql(SCHEMA)
    return found


def _sqlite(path: Path, text: str) -> str:
    connection = sqlite3.connect(path)
    if text.startswith("SELECT"):
        return str(connection.execute(text).fetchone()[0])
    connection.executescript(text).close()
    connection.close()
    return ""


def test_where_addresses_lead(place: Place, tmp_path: Path) -> None:
    directory = place.directory(tmp_path)
    carol, out = A("carol@sql.example"), (A("x@elsewhere.example"), A("y@elsewhere.example"))
    its = Mailbox(carol, Quota(5 * 2**30), out, keep_copy=False)
    assert directory.blocking
    for text, expected in {
        "carol@sql.example": its,
        "CAROL+x@SQL.example": its,
        "anyone@all.example": its,
        "postmaster@sql.example": its,
        "abuse@sql.example": its,
        "dave@sql.example": Mailbox(A("dave@sql.example"), Quota(1000)),
        "erin@sql.example": Disabled(),
        "fay@sql.example": Mailbox(A("fay@sql.example"), UNLIMITED),
        "team@sql.example": Members((carol, A("dave@sql.example"), out[0])),
        "nobody@sql.example": Unknown(),
        "nobody@other.example": NotLocal(),
    }.items():
        assert directory.resolve(A(text)) == expected, text
    assert isinstance(directory.resolve(A("alice@example.org")), Mailbox)  # of the accounts file
    assert directory.may_send_as(carol, A("new@all.example"))
    assert not directory.may_send_as(A("dave@sql.example"), A("new@all.example"))
    assert directory.sending(carol).messages_per_day == 100


def test_a_catch_all_and_a_postmaster_may_be_elsewhere_or_gone(place: Place, tmp_path: Path) -> None:
    place.sql(
        "INSERT INTO domains VALUES ('a.example', 'x@elsewhere.example', NULL),"
        "('b.example', NULL, 'y@elsewhere.example'), ('c.example', NULL, 'gone@sql.example'),"
        "('d.example', NULL, 'erin@sql.example'), ('e.example', 'erin@sql.example', NULL)"
    )
    directory = place.directory(tmp_path)
    x, y = Members((A("x@elsewhere.example"),)), Members((A("y@elsewhere.example"),))
    alice = directory.resolve(A("alice@example.org"))
    assert isinstance(alice, Mailbox)
    for text, expected in {
        "anyone@a.example": x,
        "postmaster@a.example": x,
        "anyone@b.example": Unknown(),
        "postmaster@b.example": y,
        "abuse@b.example": y,
        "postmaster@c.example": alice,
        "abuse@d.example": alice,
        "anyone@e.example": Disabled(),
        "postmaster@e.example": alice,
    }.items():
        assert directory.resolve(A(text)) == expected, text


def test_logging_in(place: Place, tmp_path: Path) -> None:
    directory = place.directory(tmp_path)
    for name in ("carol", "dave"):
        assert directory.authenticate(f"{name}@sql.example", SECRET) == A(f"{name}@sql.example")
        assert directory.authenticate(f"{name}@sql.example", "other") is None
    for name in ("erin", "fay", "nobody", "team"):
        assert directory.authenticate(f"{name}@sql.example", SECRET) is None
    assert directory.authenticate("fay@sql.example", "") is None


def test_a_user_without_a_password_costs_what_others_cost(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work: list[int] = []

    def verify(self: PasswordHasher, stored: str, octets: bytes) -> bool:
        work.append(extract_parameters(stored).memory_cost)
        raise VerifyMismatchError

    place.sql(f"UPDATE users SET password = '{{ARGON2ID}}{SECRET_HASH}' WHERE name = 'dave'")
    directory = place.directory(tmp_path)
    monkeypatch.setattr(PasswordHasher, "verify", verify)
    done = {}
    for name in ("dave", "fay", "nobody"):
        work.clear()
        assert directory.authenticate(f"{name}@sql.example", "wrong") is None
        done[name] = list(work)
    assert done["fay"] == done["nobody"] == done["dave"] and len(work) == 2


def test_a_hash_is_renewed_by_its_query_and_only_once(place: Place, tmp_path: Path) -> None:
    stored = "SELECT password FROM users WHERE name = '{}'"
    directory = place.directory(tmp_path)
    assert directory.authenticate("carol@sql.example", "other") is None
    assert place.sql(stored.format("carol")) == SHA
    assert directory.authenticate("carol@sql.example", SECRET) is not None
    new = place.sql(stored.format("carol"))
    assert new.startswith("{ARGON2ID}$argon2id$v=19$m=65536,")
    assert directory.authenticate("carol@sql.example", SECRET) is not None
    assert directory.authenticate("carol@sql.example", "other") is None
    assert directory.authenticate("dave@sql.example", SECRET) is not None
    assert place.sql(stored.format("carol")) == new
    assert place.sql(stored.format("dave")) == SECRET_HASH


def test_without_a_query_for_it_nothing_is_written(place: Place, tmp_path: Path) -> None:
    directory = place.directory(tmp_path, renew_query=None)
    assert directory.authenticate("carol@sql.example", SECRET) is not None
    assert place.sql("SELECT password FROM users WHERE name = 'carol'") == SHA


def test_a_renewal_that_fails_lets_in_all_the_same(
    place: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = place.directory(tmp_path, renew_query="UPDATE nothing SET x = :password WHERE y = :former")
    assert directory.authenticate("carol@sql.example", SECRET) is not None
    assert "is not renewed" in caplog.text and "argon2id$" not in caplog.text and SHA not in caplog.text


@pytest.mark.parametrize(
    "local",
    [
        "' OR '1'='1",
        "x' OR 1=1 --",
        "carol'; DROP TABLE users; --",
        "%",
        "_____",
        ":local",
        "%(local)s",
        "$1",
        "carol\0",
        "\ud800",
        "x" * 5000,
        "😀",
    ],
)
def test_what_is_asked_for_is_never_part_of_a_query(place: Place, tmp_path: Path, local: str) -> None:
    directory = place.directory(tmp_path)
    assert directory.resolve(Address(local, "sql.example")) == Unknown()
    assert directory.resolve(Address("a", f"{local}.example")) == NotLocal()
    assert directory.authenticate(f'"{local}"@sql.example', SECRET) is None
    assert place.sql("SELECT count(*) FROM users") == "7"


@pytest.mark.parametrize("name", ["odd", "twice", "bad"])
def test_what_makes_no_sense_is_no_answer(place: Place, tmp_path: Path, name: str) -> None:
    with pytest.raises(SourceDown, match=f"{name}@sql.example"):
        place.directory(tmp_path).resolve(A(f"{name}@sql.example"))


def test_a_domain_that_is_known_without_asking(place: Place) -> None:
    source = place.source(domains=("sql.example",), domain_query=None)
    place.sql("DROP TABLE domains")
    assert source.domain("sql.example") is not None
    assert source.domain("other.example") is None


@pytest.mark.parametrize(
    ("queries", "complaint"),
    [
        ({}, ""),
        ({"account_query": "SELECT x FROM nothing WHERE y = :address"}, "nothing"),
        ({"account_query": "SELECT name FROM users WHERE name = :address"}, "tells name, but no column password"),
        ({"alias_query": "SELECT address AS x FROM aliases WHERE address = :address"}, "tells x, but no column member"),
        ({"domain_query": "SELEC 1 WHERE :domain"}, "syntax error"),
        ({"renew_query": "UPDATE users SET pasword = :password WHERE name = :local"}, "pasword"),
    ],
)
def test_trying_out_tells_what_is_wrong_and_changes_nothing(
    place: Place, queries: dict[str, str], complaint: str
) -> None:
    source = place.source(**queries)
    if not complaint:
        assert source.try_out() == []
    else:
        with pytest.raises(SourceDown, match=complaint):
            source.try_out()
    assert place.sql("SELECT count(*) FROM users") == "7"


def test_quotes_casts_and_comments_stay_as_they_are(place: Place) -> None:
    query = "SELECT '100% :local', name || ':domain' AS member /* :domain */ FROM users WHERE name = :local -- :x\n"
    if "database" in place.settings:
        query = query.replace(":local --", ":local::text AND name LIKE 'd%' AND $q$:x$q$ = ':x' --")
    source = place.source(
        account_query="SELECT NULL AS password WHERE :local = 'x'",
        alias_query=query.replace("|| ':domain'", "|| '@sql.example'"),
    )
    found = source.find(("dave", "sql.example"))
    assert found is not None and found.address == A("dave@sql.example")


def test_a_slow_query_ends_in_time(place: Place) -> None:
    slow = "SELECT NULL AS password FROM big x, big y, big z, big w WHERE x.n + y.n + z.n + w.n < 0 AND :local <> ''"
    numbers = "WITH RECURSIVE big(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM big WHERE n < 300) "
    source = place.source(account_query=numbers + slow, timeout="0.3 s")
    start = time.monotonic()
    with pytest.raises(SourceDown, match=r"interrupted|timeout"):
        source.find(("carol", "sql.example"))
    assert time.monotonic() - start < 30


def test_many_threads_share_few_connections(place: Place, tmp_path: Path) -> None:
    directory = place.directory(tmp_path, connections=2, cache="0.000001 s")
    failures: list[BaseException] = []

    def look() -> None:
        try:
            for _ in range(20):
                assert isinstance(directory.resolve(A("carol@sql.example")), Mailbox)
                assert directory.resolve(A("nobody@sql.example")) == Unknown()
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    if "database" in place.settings:
        counts = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'mailserver' AND state = 'active'"
        assert int(place.sql(counts)) <= 2
    for thread in threads:
        thread.join()
    assert failures == []


# A database that is down


def test_a_postgres_that_is_down_is_never_no_such_user(server: postgres.Postgres, tmp_path: Path) -> None:
    settings = {"database": server.url, "password_file": str(server.password_file)}
    place = Place(settings, server.sql)
    server.sql("DROP TABLE IF EXISTS domains; DROP TABLE IF EXISTS users; DROP TABLE IF EXISTS aliases")
    server.sql(SCHEMA)
    directory = place.directory(tmp_path, cache="0.001 s", timeout="20 s")
    carol = directory.resolve(A("carol@sql.example"))
    assert directory.resolve(A("nobody@sql.example")) == Unknown()
    server.stop()
    try:
        for _ in range(3):
            assert directory.resolve(A("carol@sql.example")) == carol  # as it was
            assert isinstance(directory.resolve(A("alice@example.org")), Mailbox)  # the accounts file needs nobody
            for text in ("nobody@sql.example", "dave@sql.example", "x@other.example"):
                with pytest.raises(SourceDown, match=r"postgresql://127\.0\.0\.1"):
                    directory.resolve(A(text))
            for user in ("carol", "nobody"):
                with pytest.raises(SourceDown):
                    directory.authenticate(f"{user}@sql.example", SECRET)
    finally:
        server.start()
    time.sleep(1.1)
    assert directory.resolve(A("nobody@sql.example")) == Unknown()
    assert directory.authenticate("carol@sql.example", SECRET) is not None


def test_a_postgres_that_was_started_again_is_found_at_once(server: postgres.Postgres, tmp_path: Path) -> None:
    place = Place({"database": server.url, "password_file": str(server.password_file)}, server.sql)
    server.sql("DROP TABLE IF EXISTS domains; DROP TABLE IF EXISTS users; DROP TABLE IF EXISTS aliases")
    server.sql(SCHEMA)
    directory = place.directory(tmp_path, cache="0.001 s")
    assert isinstance(directory.resolve(A("carol@sql.example")), Mailbox)
    server.stop()
    server.start()
    assert isinstance(directory.resolve(A("dave@sql.example")), Mailbox)


def answers(directory: Directory, address: str) -> bool:
    """There is a mailbox; false while nobody can tell."""
    try:
        return isinstance(directory.resolve(A(address)), Mailbox)
    except SourceDown:
        return False


def test_a_postgres_that_hangs_costs_a_timeout_now_and_then(server: postgres.Postgres, tmp_path: Path) -> None:
    place = Place({"database": server.url, "password_file": str(server.password_file)}, server.sql)
    server.sql("DROP TABLE IF EXISTS domains; DROP TABLE IF EXISTS users; DROP TABLE IF EXISTS aliases")
    server.sql(SCHEMA)
    directory = place.directory(tmp_path, cache="0.001 s", timeout="1 s")
    wait_until(lambda: answers(directory, "carol@sql.example"), what="an answer")
    server.freeze(True)
    try:
        start = time.monotonic()
        with pytest.raises(SourceDown):
            directory.resolve(A("dave@sql.example"))
        first = time.monotonic() - start
        assert 0.9 < first < 20
        start = time.monotonic()
        for _ in range(50):
            with pytest.raises(SourceDown):
                directory.resolve(A("dave@sql.example"))
        assert time.monotonic() - start < 20  # nobody waits for a server that is known to hang
    finally:
        server.freeze(False)
    wait_until(lambda: answers(directory, "dave@sql.example"), what="an answer")


def test_a_wrong_password_for_the_database_is_told_without_it(server: postgres.Postgres, tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text("wrong-secret")
    source = Place({"database": server.url, "password_file": str(tmp_path / "wrong")}, server.sql).source()
    with pytest.raises(SourceDown, match="authentication failed") as caught:
        source.try_out()
    assert "wrong-secret" not in str(caught.value)


def test_an_sqlite_file_that_is_missing_broken_or_replaced(tmp_path: Path) -> None:
    path = tmp_path / "users.db"
    place = Place({"file": str(path)}, lambda text: _sqlite(path, text))
    directory = place.directory(tmp_path, cache="0.001 s")
    with pytest.raises(SourceDown, match=r"users\.db cannot be opened"):
        directory.resolve(A("carol@sql.example"))
    assert not path.exists()
    place.sql(SCHEMA)
    time.sleep(1.1)
    assert isinstance(directory.resolve(A("carol@sql.example")), Mailbox)
    other = tmp_path / "other.db"
    _sqlite(other, SCHEMA.replace("'carol'", "'zoe'"))
    other.rename(path)
    zoe = directory.resolve(A("zoe@sql.example"))
    assert isinstance(zoe, Mailbox) and zoe.account == A("zoe@sql.example")
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(SourceDown):
        directory.resolve(A("dave@sql.example"))
