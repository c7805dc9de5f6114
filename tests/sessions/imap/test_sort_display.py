"""SORT=DISPLAY (RFC 5957): by the names of the first addresses, or by the addresses."""

from pathlib import Path

import pytest

from tests.support.imap import Server

FROM = [
    "smith@example.test",  # 1: no name
    "Zoe <adam@example.test>",  # 2
    '"adam" <zoe@example.test>, Aaron <a@example.test>',  # 3
    "=?utf-8?q?=C3=84nne?= <x@example.test>",  # 4
    '"" <bob@example.test>',  # 5: an empty name is none
    "",  # 6: no address at all
    "friends: Carl <carl@example.test>;",  # 7: a group has a mailbox and no host
]


@pytest.mark.parametrize(("field", "criterion"), [("From", "DISPLAYFROM"), ("To", "DISPLAYTO")])
def test_by_display_names(tmp_path: Path, field: str, criterion: str) -> None:
    server = Server(tmp_path)
    for value in FROM:
        server.deliver(f"{field}: {value}\r\nSubject: x\r\n\r\nx\r\n".encode())
    client = server.login(select="INBOX")
    order = [6, 3, 4, 5, 7, 1, 2]  # "", ADAM, A-diaeresis, BOB@, FRIENDS, SMITH@, ZOE
    assert client.lines(f"SORT ({criterion}) UTF-8 ALL") == [b"SORT " + " ".join(map(str, order)).encode()]
    reverse = " ".join(map(str, reversed(order))).encode()
    assert client.lines(f"UID SORT (REVERSE {criterion}) UTF-8 ALL") == [b"SORT " + reverse]
    assert b" SORT=DISPLAY" in client.lines("CAPABILITY")[0]
