"""APPENDLIMIT (RFC 7889)."""

from pathlib import Path

from mailserver.config.model import Limits
from tests.support.imap import Server


def test_the_limit_is_told_and_kept(tmp_path: Path) -> None:
    server = Server(tmp_path, limits=Limits.model_validate({"message_size": "64 KiB"}))
    client = server.connect()
    assert b"APPENDLIMIT" not in client.command("CAPABILITY")
    assert b" APPENDLIMIT=65536" in client.command("LOGIN alice secret")
    assert client.lines("STATUS INBOX (APPENDLIMIT)") == [b'STATUS "INBOX" (APPENDLIMIT 65536)']
    assert client.lines('LIST "" INBOX RETURN (STATUS (MESSAGES appendlimit))') == [
        b'LIST (\\HasNoChildren) "/" "INBOX"',
        b'STATUS "INBOX" (MESSAGES 0 APPENDLIMIT 65536)',
    ]
    assert client.command("APPEND INBOX {65537}").startswith(b"t NO [TOOBIG]")
    assert client.append("INBOX", b"x" * 65537).startswith(b"t NO [TOOBIG]")
    assert b"t OK" in client.append("INBOX", b"x" * 65536)


def test_a_limit_beyond_the_numbers_of_the_protocol(tmp_path: Path) -> None:
    client = Server(tmp_path, limits=Limits.model_validate({"message_size": "1 TiB"})).login()
    assert client.lines("STATUS INBOX (APPENDLIMIT)") == [b'STATUS "INBOX" (APPENDLIMIT 4294967295)']
