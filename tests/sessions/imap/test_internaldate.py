"""INTERNALDATE (RFC 3501 §2.3.3, §6.3.11, §6.4.4): told as it was given, its zone as well, whatever happens."""

import os
from pathlib import Path

import pytest

from mailserver.imap import responses
from mailserver.store import names
from tests.support.imap import Client, Server, fetched

INDIA = '"17-Jul-1996 02:44:25 +0530"'


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


@pytest.fixture
def client(server: Server) -> Client:
    return server.login(select="INBOX")


def dates(client: Client) -> list[object]:
    return [item[b"INTERNALDATE"] for item in fetched(client.command("FETCH 1:* INTERNALDATE")).values()]


def append(client: Client, date: str, mailbox: str = "INBOX") -> None:
    assert b"Appended" in client.append(mailbox, b"Subject: x\r\n\r\n", extra=date + " ")


@pytest.mark.parametrize(
    "date",
    [
        "17-Jul-1996 02:44:25 +0530", "17-Jul-1996 02:44:25 -0700", " 1-Jan-2000 00:00:00 +1400",
        "31-Dec-1999 23:59:59 -1200",
        "29-Feb-2024 12:00:00 -0330",
        "17-Jul-1996 02:44:25 +0001", "17-Jul-1996 02:44:25 -0059", "17-Jul-1996 02:44:25 +0000",
        "17-Jul-1996 02:44:25 +9959", " 1-Jan-1970 00:00:00 +0100", "31-Dec-1969 23:00:00 -0100",
    ],
)  # fmt: skip
def test_what_append_gave_is_told(client: Client, date: str) -> None:
    append(client, f'"{date}"')
    assert dates(client) == [date.encode()]


def test_a_zone_of_minus_nothing_is_utc(client: Client) -> None:
    append(client, '"17-Jul-1996 02:44:25 -0000"')
    assert dates(client) == [b"17-Jul-1996 02:44:25 +0000"]


def test_it_stands_in_the_file_itself(server: Server, client: Client) -> None:
    """So it is there again when the index is made anew, or another program moved the file."""
    append(client, INDIA)
    client.command("STORE 1 +FLAGS (\\Seen kept)")
    home = server.root / "example.test/alice"
    (path,) = (home / "cur").iterdir()
    assert ",Z=+0530,U=1:2," in path.name
    assert path.stat().st_mtime == 837551665
    for file in home.glob("mailserver.index*"):
        file.unlink()
    again = Server(server.root).login(select="INBOX")
    assert dates(again) == [b"17-Jul-1996 02:44:25 +0530"]
    base = names.base_of(path.name).partition(",U=")[0]
    (home / "new" / base).write_bytes(path.read_bytes())
    os.utime(home / "new" / base, (837551665, 837551665))
    assert dates(Server(server.root).login(select="INBOX")) == [b"17-Jul-1996 02:44:25 +0530"] * 2


def test_it_goes_along(client: Client) -> None:
    """With COPY, MOVE, RENAME of INBOX, REPLACE with a date, and a message that is put together."""
    client.command("CREATE Work")
    append(client, INDIA)
    assert client.command("COPY 1 Work").endswith(b"Copied\r\n")
    assert client.command("MOVE 1 Work").endswith(b"Moved\r\n")
    client.command("SELECT Work")
    assert dates(client) == [b"17-Jul-1996 02:44:25 +0530"] * 2
    assert client.command("MOVE 1 INBOX").endswith(b"Moved\r\n")
    assert client.command("RENAME INBOX Old").startswith(b"t OK ")
    client.command("SELECT Old")
    assert dates(client) == [b"17-Jul-1996 02:44:25 +0530"]
    client.command('REPLACE 1 Old "18-Jul-1996 02:44:25 -0330" {3+}\r\nabc')
    client.command('APPEND Old "19-Jul-1996 02:44:25 +0200" CATENATE (URL ;UID=2)')
    assert dates(client) == [b"18-Jul-1996 02:44:25 -0330", b"19-Jul-1996 02:44:25 +0200"]


def test_search_takes_the_day_that_is_told(client: Client) -> None:
    """§6.4.4: time and zone are disregarded."""
    append(client, '"17-Jul-1996 00:30:00 +0530"')  # the 16th in UTC
    append(client, '"17-Jul-1996 23:30:00 -0700"')  # the 18th in UTC
    append(client, '"17-Jul-1996 12:00:00 +0000"')
    assert client.lines("SEARCH ON 17-Jul-1996") == [b"SEARCH 1 2 3"]
    assert client.lines("SEARCH BEFORE 17-Jul-1996") == [b"SEARCH"]
    assert client.lines("SEARCH SINCE 18-Jul-1996") == [b"SEARCH"]
    assert client.lines("SORT (ARRIVAL) UTF-8 ALL") == [b"SORT 1 3 2"], "by the moment"


def test_mail_that_came_in_is_told_in_utc(server: Server, client: Client) -> None:
    server.deliver(b"Subject: x\r\n\r\n")
    client.command("NOOP")
    (date,) = dates(client)
    assert isinstance(date, bytes)
    assert date.endswith(b" +0000")


@pytest.mark.parametrize(
    ("name", "zone"),
    [
        ("1.x,S=1,W=1,Z=+0530,U=3:2,S", 330), ("1.x,Z=-0059", -59), ("1.x", 0), ("1.x,Z=+0560:2,", 0),
        ("1.x,Z=0530", 0),
        ("1.x,Z=+05300", 0), ("1.x:2,,Z=+0530", 0), ("1.x,Z=", 0), ("1.xZ=+0530", 0),
    ],
)  # fmt: skip
def test_zones_in_names(name: str, zone: int) -> None:
    assert names.zone_of(name) == zone


@pytest.mark.parametrize("minutes", [0, 1, -1, 330, -210, 840, 5999, -5999])
def test_names_and_answers_carry_a_zone_there_and_back(minutes: int) -> None:
    assert names.zone_of(names.with_zone("1.x,S=1,W=1", minutes)) == minutes
    assert names.zone_of(names.with_fields_of("2.y", names.with_zone("1.x", minutes))) == minutes
    assert responses.date_time(0, minutes).count(b" ") in (2, 3)
