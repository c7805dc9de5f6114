"""The states of an SMTP session, seen by the server, and what may follow in each (RFC 5321 §4.1.4, RFC 3030 §2)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto

from mailserver.mail import Reply
from mailserver.smtp.events import (
    Auth,
    AuthCancelled,
    AuthResponse,
    BodyEnd,
    ChunkEnd,
    Data,
    Etrn,
    Event,
    Hello,
    Help,
    Mail,
    Noop,
    Quit,
    Rcpt,
    Rejected,
    Reset,
    StartTLS,
    Verify,
    XClient,
)


class State(Enum):
    __hash__ = object.__hash__  # each is there once; Enum's own hashes its name, in Python

    CONNECTED = auto()  # not greeted yet; what comes meanwhile waits
    REFUSED = auto()  # greeted with 554: only QUIT is left, §3.1
    START = auto()
    READY = auto()  # EHLO or HELO was accepted
    MAIL = auto()  # a transaction with a sender
    RCPT = auto()  # and with one recipient at least
    BODY = auto()
    CHUNKS = auto()  # between two chunks of BDAT
    AUTH = auto()  # a challenge awaits its response
    CLOSED = auto()


TRANSITIONS: Mapping[tuple[State, type[Event]], State] = {
    (State.REFUSED, Quit): State.CLOSED,
    #
    (State.START, Hello): State.READY,
    (State.START, Reset): State.START,  # these need no EHLO, §4.1.4
    (State.START, Noop): State.START,
    (State.START, Verify): State.START,
    (State.START, Help): State.START,
    (State.START, Quit): State.CLOSED,
    (State.START, XClient): State.START,
    #
    (State.READY, Hello): State.READY,
    (State.READY, Mail): State.MAIL,
    (State.READY, StartTLS): State.START,
    (State.READY, Auth): State.READY,
    (State.READY, Reset): State.READY,
    (State.READY, Noop): State.READY,
    (State.READY, Verify): State.READY,
    (State.READY, Help): State.READY,
    (State.READY, Quit): State.CLOSED,
    (State.READY, XClient): State.START,
    (State.READY, Etrn): State.READY,
    #
    (State.MAIL, Hello): State.READY,  # as RSET, §4.1.4
    (State.MAIL, Rcpt): State.RCPT,
    (State.MAIL, Reset): State.READY,
    (State.MAIL, Noop): State.MAIL,
    (State.MAIL, Verify): State.MAIL,
    (State.MAIL, Help): State.MAIL,
    (State.MAIL, Quit): State.CLOSED,
    #
    (State.RCPT, Hello): State.READY,
    (State.RCPT, Rcpt): State.RCPT,
    (State.RCPT, Data): State.BODY,
    (State.RCPT, Reset): State.READY,
    (State.RCPT, Noop): State.RCPT,
    (State.RCPT, Verify): State.RCPT,
    (State.RCPT, Help): State.RCPT,
    (State.RCPT, Quit): State.CLOSED,
    #
    (State.BODY, BodyEnd): State.READY,
    (State.BODY, ChunkEnd): State.CHUNKS,
    #
    (State.CHUNKS, Hello): State.READY,
    (State.CHUNKS, Reset): State.READY,
    (State.CHUNKS, Noop): State.CHUNKS,
    (State.CHUNKS, Verify): State.CHUNKS,
    (State.CHUNKS, Help): State.CHUNKS,
    (State.CHUNKS, Quit): State.CLOSED,
    #
    (State.AUTH, AuthResponse): State.READY,
    (State.AUTH, AuthCancelled): State.READY,
    (State.AUTH, Rejected): State.READY,
}

ENDING: frozenset[type[Event]] = frozenset({ChunkEnd, BodyEnd, AuthResponse, AuthCancelled, Rejected, Quit})

OUT_OF_ORDER: Mapping[State, Reply] = {
    State.REFUSED: Reply.of(503, "5.5.1", "There is no service here: send QUIT"),
    State.START: Reply.of(503, "5.5.1", "Send EHLO first"),
    State.READY: Reply.of(503, "5.5.1", "Send MAIL first"),
    State.MAIL: Reply.of(503, "5.5.1", "Not allowed within a mail transaction"),
    State.RCPT: Reply.of(503, "5.5.1", "Not allowed within a mail transaction"),
    State.CHUNKS: Reply.of(503, "5.5.1", "The content comes by BDAT: send the next chunk, or RSET"),
}
