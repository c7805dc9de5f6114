"""What servers may say, octet by octet: RFC 5321 §4.2, RFC 1939 §3, RFC 3501 §9. AssertionError for anything else."""

from __future__ import annotations

import re

_SMTP_REPLY = re.compile(rb"(?:([2-5][0-9]{2})-[\x20-\x7e]*\r\n)*+([2-5][0-9]{2}) [\x20-\x7e]*\r\n")
_POP3_STATUS = re.compile(rb"(?:\+OK|-ERR)(?: [\x20-\x7e]*)?\r\n")
_POP3_CHALLENGE = re.compile(rb"\+ [A-Za-z0-9+/]*={0,2}\r\n")

_IMAP_TEXT = re.compile(rb"[\x20-\x7e]+\r\n")
_IMAP_STATUS = re.compile(rb"(?:OK|NO|BAD|BYE) ")
_IMAP_DATA = re.compile(
    rb"(?:CAPABILITY|COMPARATOR|ENABLED|ESEARCH|ID|NAMESPACE|LIST|LSUB|STATUS|FLAGS|SEARCH|SORT|THREAD|VANISHED"
    rb"|QUOTA|QUOTAROOT|METADATA|GENURLAUTH|URLFETCH|UIDBATCHES"
    rb"|[0-9]+ (?:EXISTS|RECENT|EXPUNGE|FETCH|UIDFETCH))(?=[ \r])"
)
_IMAP_TAG = re.compile(rb'[^\x00-\x20\x7f-\xff(){%*"\\+]+ ')
_IMAP_TOKEN = re.compile(
    rb'"((?:[^"\\\r\n\x00]|\\["\\])*+)"|\{(\d+)\}\r\n|([(\[])|([)\]])|[^\x00-\x1f\x7f-\xff"{()\[\]]+'
)
_OPENING = {b")": b"(", b"]": b"["}


def smtp_replies(data: bytes) -> list[bytes]:
    """Each reply whole, of one or more lines."""
    replies = []
    position = 0
    while position < len(data):
        match = _SMTP_REPLY.match(data, position)
        assert match, data[position : position + 200]
        lines = match[0].splitlines(keepends=True)
        assert {line[:3] for line in lines} == {match[2]}, match[0]
        assert all(len(line) <= 512 for line in lines), match[0]
        replies.append(match[0])
        position = match.end()
    return replies


def pop3_answer(data: bytes, *, multiline: bool, exchange: bool) -> bytes:
    """One answer and nothing more; gives its first word."""
    if exchange and _POP3_CHALLENGE.fullmatch(data):
        return b"+"
    match = _POP3_STATUS.match(data)
    assert match and len(match[0]) <= 512, data[:200]
    word = data.split(maxsplit=1)[0]
    rest = data[match.end() :]
    if multiline and word == b"+OK":
        *lines, last, end = rest.split(b"\r\n")
        assert (last, end) == (b".", b""), rest[-200:]
        assert all(line.startswith(b"..") for line in lines if line.startswith(b".")), rest[-200:]
    else:
        assert rest == b"", rest[:200]
    return word


def imap_responses(data: bytes, *, utf8: bool = False) -> list[bytes]:
    """Each response whole, its literals inside. `utf8`: quoted strings may be UTF-8 (RFC 9051 §4.3)."""
    responses = []
    position = 0
    while position < len(data):
        end = _imap_response(data, position, utf8=utf8)
        responses.append(data[position:end])
        position = end
    return responses


def _imap_response(data: bytes, start: int, *, utf8: bool) -> int:
    if data.startswith(b"+ ", start):
        return _text(data, start)
    untagged = data.startswith(b"* ", start)
    tag = _IMAP_TAG.match(data, start)
    assert untagged or tag, data[start : start + 200]
    position = start + 2 if untagged else tag.end() if tag else start
    if _IMAP_STATUS.match(data, position):
        return _text(data, position)
    assert untagged and _IMAP_DATA.match(data, position), data[start : start + 200]
    return imap_data(data, position, utf8=utf8)


def _text(data: bytes, position: int) -> int:
    match = _IMAP_TEXT.match(data, position)
    assert match, data[position : position + 200]
    return match.end()


def imap_data(data: bytes, position: int = 0, *, utf8: bool = False) -> int:
    """Where the line ends that begins here: strings are sound, and what is opened is closed."""
    depth: list[bytes] = []
    while not data.startswith(b"\r\n", position):
        match = _IMAP_TOKEN.match(data, position)
        assert match, data[max(0, position - 100) : position + 100]
        position = match.end()
        if match[1]:
            assert match[1].decode() if utf8 else match[1].isascii(), match[1]
        elif match[2]:
            literal = data[position : position + int(match[2])]
            binary = data[: match.start()].endswith(b" ~")
            assert len(literal) == int(match[2]) and (binary or b"\0" not in literal), literal[:200]
            position += len(literal)
        elif match[3]:
            depth.append(match[3])
        elif match[4]:
            assert depth and depth.pop() == _OPENING[match[4]], data[max(0, position - 200) : position]
    assert not depth, data[max(0, position - 200) : position]
    return position + 2
