"""What a client did, as the server engine tells it. Each event but `BodyChunk` awaits an answer before the next comes.

Promises   Text fields hold no control characters. Secrets do not stand in a `repr`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mailserver.mail import Address, Body, Notify, Reply, Return
from mailserver.mail.orcpt import is_utf8_type


@dataclass(frozen=True, slots=True)
class Hello:
    """EHLO or LHLO (`extended`), or HELO. `domain` is one word as the client wrote it, at most 255 octets.

    It is not to be trusted.
    Accepting it ends an open mail transaction, as RSET does (RFC 5321 §4.1.4).
    """

    domain: str
    extended: bool


@dataclass(frozen=True, slots=True)
class By:
    """The BY parameter of MAIL (RFC 2852): `seconds` from now, more than none when the message is `returned` then."""

    seconds: int
    returned: bool
    trace: bool


@dataclass(frozen=True, slots=True)
class Mail:
    """MAIL. `size` is what the client declares (RFC 1870), within the limit; the body may still be larger.

    Of `hold_for`, seconds, and `hold_until`, wall time, one is there at most (RFC 4865); `hold` is which, in the words
    of a report. `priority` is from -9 to 9 (RFC 6710).
    """

    sender: Address | None
    size: int | None = None
    body: Body = Body.SEVEN_BIT
    smtputf8: bool = False
    prdr: bool = False
    ret: Return | None = None
    envid: str | None = None
    requiretls: bool = False
    hold_for: int | None = None
    hold_until: float | None = None
    hold: str | None = None
    by: By | None = None
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Rcpt:
    """RCPT. An address without a domain is the bare `<Postmaster>`."""

    address: Address
    notify: frozenset[Notify] | None = None
    orcpt: str | None = None

    @property
    def needs_smtputf8(self) -> bool:
        """Something in it was not ASCII (RFC 6531 §3.5, RFC 6533 §3). What came in xtext was."""
        orcpt = self.orcpt or ""
        return self.address.needs_smtputf8 or (is_utf8_type(orcpt) and not orcpt.isascii())


@dataclass(frozen=True, slots=True)
class Data:
    """DATA, with one accepted recipient at least. Answer with 354 to get the body, else with 4xx or 5xx.

    `chunked`: it is the first BDAT (RFC 3030), whose octets are on their way already; a 354 is not said then.
    """

    chunked: bool = False


@dataclass(frozen=True, slots=True)
class BodyChunk:
    """The next octets of the content: dots unstuffed, lines ended by CRLF. Cut anywhere. Needs no answer."""

    data: bytes


@dataclass(frozen=True, slots=True)
class ChunkEnd:
    """A chunk of `size` octets is complete and is not the last one.

    With a `fault` answer with it and forget the message: the transaction is over.
    """

    size: int
    fault: Reply | None = None


@dataclass(frozen=True, slots=True)
class BodyEnd:
    """The content is complete: `size` octets. With a `fault` chunks are missing: answer with it and forget them.

    Whatever the answer is, it ends the transaction.
    """

    size: int
    fault: Reply | None = None
    line_ends: int | None = field(default=None, compare=False)
    """How many CRLF it has, if it has no other CR or LF; None: that is not known."""


@dataclass(frozen=True, slots=True)
class Reset:
    """RSET: forget the transaction."""


@dataclass(frozen=True, slots=True)
class Noop:
    """NOOP."""


@dataclass(frozen=True, slots=True)
class Verify:
    """VRFY."""

    argument: str


@dataclass(frozen=True, slots=True)
class Help:
    """HELP."""


@dataclass(frozen=True, slots=True)
class Quit:
    """QUIT. The engine takes nothing more after the answer."""


@dataclass(frozen=True, slots=True)
class StartTLS:
    """STARTTLS. After a 220 forget all the client said, and any login (RFC 3207 §4.2), then begin the handshake."""


@dataclass(frozen=True, slots=True)
class Auth:
    """AUTH with one of the offered mechanisms, in upper case. `initial` None: the client sent no initial response."""

    mechanism: str
    initial: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class AuthResponse:
    """The answer to a challenge, decoded."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class AuthCancelled:
    """The client gave the exchange up with `*`. Answer with `reply`."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Etrn:
    """ETRN (RFC 1985): mail for this domain is to be sent now; `subdomains`: for those below it as well."""

    domain: str
    subdomains: bool


@dataclass(frozen=True, slots=True)
class XClient:
    """XCLIENT: what a trusted client tells of the one that it speaks for. Answer with 220, as a greeting.

    Keys are upper case; a value is None when it is not known. After a 220 forget all that the client said.
    """

    attributes: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Rejected:
    """Nothing that could be done: bad syntax, unknown, out of order, too long. Answer with `reply`.

    It ends an authentication exchange. `fatal`: the other side does not speak SMTP; the engine takes nothing more.
    """

    reply: Reply
    fatal: bool = False


Event = (
    Hello
    | Mail
    | Rcpt
    | Data
    | BodyChunk
    | ChunkEnd
    | BodyEnd
    | Reset
    | Noop
    | Verify
    | Help
    | Quit
    | StartTLS
    | Auth
    | AuthResponse
    | AuthCancelled
    | Etrn
    | XClient
    | Rejected
)
