"""The grammar of commands (RFC 5321 §4.1), as regular expressions under their ABNF names, and the table of commands.

Promises   A line becomes an event, or a `Refusal` that carries the reply it deserves; replies never repeat the input.
           No expression can take more than linear time.
On purpose Looser than the standard where real clients are: any printable word after EHLO, spaces after "FROM:" and
           "TO:" and at the end of a line. Never looser about line ends, control characters and octets above 127.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from mailserver.mail import Body, Notify, Reply, Return, parse_forward_path, parse_reverse_path
from mailserver.mail.address import AddressError, parse_domain
from mailserver.mail.orcpt import is_utf8_type
from mailserver.sasl import decode_base64
from mailserver.smtp.events import (
    Auth,
    By,
    Data,
    Etrn,
    Event,
    Hello,
    Help,
    Mail,
    Noop,
    Quit,
    Rcpt,
    Reset,
    StartTLS,
    Verify,
    XClient,
)

T = TypeVar("T")

SIZE_VALUE = r"[0-9]{1,20}"  # RFC 1870 §4
ESMTP_PARAM = (
    r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~\x80-\U0010ffff]+))?"  # esmtp-keyword ["=" esmtp-value], RFC 6531 §3.3
)
XTEXT = r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})+"  # RFC 3461 §4
SASL_MECH = r"[A-Za-z0-9_-]{1,20}"  # RFC 4422 §3.1
PATH = r'<(?:[^<>" ]|"(?:[^"\\]|\\.)*")*>'  # where it ends; what is in it mailserver.mail looks at

_PATH_AND_PARAMETERS = re.compile(rf" *({PATH})((?: +[^ ]+)*)")
_ESMTP_PARAM = re.compile(ESMTP_PARAM)
_BODIES = {str(body): body for body in Body}
_SIZE = re.compile(SIZE_VALUE)
_AUTH_PARAM = re.compile(rf"<>|{XTEXT}")  # RFC 4954 §5
_AUTH = re.compile(rf"({SASL_MECH})(?: +([!-~]+))?")
_BDAT = re.compile(rf"({SIZE_VALUE})( +LAST)?", re.IGNORECASE)  # RFC 3030 §2
ENVID_LIMIT = 100  # characters, RFC 3461 §4.4
ORCPT_LIMIT = 500  # characters, RFC 3461 §4.2
_ORCPT = re.compile(r"[A-Za-z0-9-]{1,50};.+")
_XTEXT = re.compile(XTEXT)
_HEXCHAR = re.compile(rb"\+([0-9A-F]{2})")
XCLIENT_NAMES = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN", "DESTADDR", "DESTPORT", "REVERSE_NAME")
_WORD = re.compile(r"[!-~]{1,255}")
_VERB = re.compile(r"[A-Za-z]{1,20}")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")

_HOLD_FOR = re.compile(r"[1-9][0-9]{0,8}")  # RFC 4865 §3: a positive number
_BY = re.compile(r"([+-]?[0-9]{1,9});([NR])(T?)", re.IGNORECASE)  # RFC 2852 §4
_PRIORITY = re.compile(r"0|-?[1-9]")  # RFC 6710 §7
_DATE_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})"
)  # RFC 3339 §5.6

MAIL_PARAMETERS = frozenset(
    {"SIZE", "BODY", "AUTH", "SMTPUTF8", "PRDR", "RET", "ENVID", "REQUIRETLS", "HOLDFOR", "HOLDUNTIL", "BY"}
    | {"MT-PRIORITY"}
)
RCPT_PARAMETERS = frozenset({"NOTIFY", "ORCPT"})

_NO_PARAMETERS = Reply.of(501, "5.5.4", "No parameters are allowed")


class Refusal(Exception):
    """A line that is no command which can be carried out."""

    def __init__(self, reply: Reply, *, fatal: bool = False) -> None:
        super().__init__(str(reply))
        self.reply = reply
        self.fatal = fatal


def refusal(code: int, enhanced: str, text: str, *, fatal: bool = False) -> Refusal:
    return Refusal(Reply.of(code, enhanced, text), fatal=fatal)


def split_command(line: bytes) -> tuple[str, str]:
    """Verb in upper case, and the rest of a line without its CRLF.

    Raises Refusal.
    """
    line = line.rstrip(b" \t")
    if _CONTROL.search(line):
        raise refusal(500, "5.5.2", "Lines end in CRLF and hold no control characters")
    try:
        verb, _, argument = line.decode().partition(" ")
    except UnicodeDecodeError:
        raise refusal(500, "5.5.2", "Octets above 127 must be UTF-8") from None
    if not _VERB.fullmatch(verb):
        raise refusal(500, "5.5.2", "Syntax error")
    return verb.upper(), argument


def parse_mail(argument: str) -> Mail:
    path, parameters = _path(argument, "FROM:", MAIL_PARAMETERS)
    size, body, identity = parameters.get("SIZE"), parameters.get("BODY"), parameters.get("AUTH")
    for name in ("SMTPUTF8", "PRDR", "REQUIRETLS"):
        if parameters.get(name):
            raise refusal(501, "5.5.4", f"{name} takes no value")
    smtputf8 = "SMTPUTF8" in parameters
    _must_be_ascii(path, unless=smtputf8)
    if size is not None and not _SIZE.fullmatch(size):
        raise refusal(501, "5.5.4", "SIZE is malformed")
    if body is not None and body.upper() not in _BODIES:
        raise refusal(501, "5.5.4", "BODY is none of 7BIT, 8BITMIME and BINARYMIME")
    if identity is not None and not _AUTH_PARAM.fullmatch(identity):
        raise refusal(501, "5.5.4", "AUTH is malformed")  # when it is not, AUTH=<> is assumed: nobody is trusted so far
    interval, moment = parameters.get("HOLDFOR"), parameters.get("HOLDUNTIL")
    hold_for, hold_until = _hold(interval, moment)
    return Mail(
        _address(parse_reverse_path, path, "5.1.7"),
        size=None if size is None else int(size),
        body=Body.SEVEN_BIT if body is None else _BODIES[body.upper()],
        smtputf8=smtputf8,
        prdr="PRDR" in parameters,
        ret=_ret(parameters.get("RET")),
        envid=_bounded_xtext(parameters.get("ENVID"), "ENVID", ENVID_LIMIT),
        requiretls="REQUIRETLS" in parameters,
        hold_for=hold_for,
        hold_until=hold_until,
        hold=f"for;{interval}" if interval else f"until;{moment}" if moment else None,
        by=_by(parameters.get("BY")),
        priority=_priority(parameters.get("MT-PRIORITY")),
    )


def _by(value: str | None) -> By | None:
    if value is None:
        return None
    match = _BY.fullmatch(value)
    if match is None:
        raise refusal(501, "5.5.4", "BY is a number of seconds, a semicolon, and N or R, perhaps with T behind it")
    by = By(int(match[1]), match[2].upper() == "R", bool(match[3]))
    if by.returned and by.seconds <= 0:
        raise refusal(501, "5.5.4", "BY needs more than 0 seconds for a message that is to be returned")
    return by


def _priority(value: str | None) -> int:
    if value is None:
        return 0
    if not _PRIORITY.fullmatch(value):
        raise refusal(501, "5.5.2", "MT-PRIORITY is a number from -9 to 9")
    return int(value)


def _hold(interval: str | None, moment: str | None) -> tuple[int | None, float | None]:
    """Seconds, or seconds since the epoch (RFC 4865). Raises Refusal."""
    if interval is not None and moment is not None:
        raise refusal(501, "5.5.4", "HOLDFOR and HOLDUNTIL exclude each other")
    if interval is not None and not _HOLD_FOR.fullmatch(interval):
        raise refusal(501, "5.5.4", "HOLDFOR is a number of seconds, from 1 to 9 digits long, and not 0")
    if moment is not None and not _DATE_TIME.fullmatch(moment):
        raise refusal(501, "5.5.4", "HOLDUNTIL is a time as 2030-01-31T08:00:00Z")
    try:
        until = None if moment is None else datetime.fromisoformat(moment.upper()).timestamp()
    except (ValueError, OverflowError):
        raise refusal(501, "5.5.4", "HOLDUNTIL is no time") from None
    return None if interval is None else int(interval), until


def _ret(value: str | None) -> Return | None:
    if value is None:
        return None
    try:
        return Return(value.upper())
    except ValueError:
        raise refusal(501, "5.5.4", "RET is neither FULL nor HDRS") from None


def _bounded_xtext(value: str | None, name: str, limit: int) -> str | None:
    """Decoded. Raises Refusal."""
    if value is None:
        return None
    if len(value) > limit or not _XTEXT.fullmatch(value):
        raise refusal(501, "5.5.4", f"{name} is malformed or too long")
    return parse_xtext(value)


def _notify(value: str | None) -> frozenset[Notify] | None:
    if value is None:
        return None
    try:
        wanted = [Notify(word) for word in value.upper().split(",")]
    except ValueError:
        wanted = []
    if not wanted or len(set(wanted)) < len(wanted) or (Notify.NEVER in wanted and len(wanted) > 1):
        raise refusal(501, "5.5.4", "NOTIFY is NEVER, or some of SUCCESS, FAILURE and DELAY")
    return frozenset(wanted)


def parse_rcpt(argument: str) -> Rcpt:
    """An address that is not ASCII is taken here; whether MAIL said SMTPUTF8 is the engine's question."""
    path, parameters = _path(argument, "TO:", RCPT_PARAMETERS)
    orcpt = _orcpt(parameters.get("ORCPT"))
    return Rcpt(_address(parse_forward_path, path, "5.1.3"), _notify(parameters.get("NOTIFY")), orcpt)


def _orcpt(value: str | None) -> str | None:
    """RFC 3461 §4.2; of the type of RFC 6533 as it is written. Raises Refusal."""
    if value is None or not is_utf8_type(value):
        orcpt = _bounded_xtext(value, "ORCPT", ORCPT_LIMIT)
    elif len(value) > ORCPT_LIMIT or not value.isprintable():
        raise refusal(501, "5.5.4", "ORCPT is malformed or too long")
    else:
        orcpt = value
    if orcpt is not None and not _ORCPT.fullmatch(orcpt):
        raise refusal(501, "5.5.4", "ORCPT is an address type, a semicolon and an address")
    return orcpt


def _must_be_ascii(path: str, *, unless: bool) -> None:
    if not (unless or path.isascii()):
        raise refusal(553, "5.6.7", "An address that is not ASCII needs SMTPUTF8 in MAIL")  # RFC 6531 §3.5


def _path(argument: str, keyword: str, known: frozenset[str]) -> tuple[str, dict[str, str]]:
    """`keyword Path [SP Mail-parameters]`; a parameter without a value has an empty one."""
    match = None
    if argument[: len(keyword)].upper() == keyword:
        match = _PATH_AND_PARAMETERS.fullmatch(argument, len(keyword))
    if match is None:
        raise refusal(501, "5.5.2", f"Syntax: {keyword}<address> and parameters")
    path: str = match[1]
    parameters: dict[str, str] = {}
    for text in filter(None, match[2].split(" ")):
        parameter = _ESMTP_PARAM.fullmatch(text)
        name = parameter[1].upper() if parameter else ""
        if parameter is None or name in parameters:
            raise refusal(501, "5.5.4", "A parameter is malformed or given twice")
        if name not in known:
            raise refusal(555, "5.5.4", "A parameter is not supported")
        parameters[name] = parameter[2] or ""
    return path, parameters


def _address(parse: Callable[[str], T], path: str, enhanced: str) -> T:
    try:
        return parse(path)
    except AddressError as error:
        text = str(error)
        raise refusal(501, enhanced, text[:1].upper() + text[1:]) from None


def parse_auth(argument: str) -> Auth:
    """RFC 4954 §4; "=" is an initial response of no octets."""
    match = _AUTH.fullmatch(argument)
    if match is None:
        raise refusal(501, "5.5.4", "Syntax: AUTH mechanism and initial response")
    initial: str | None = match[2]
    if initial is None or initial == "=":
        return Auth(match[1].upper(), None if initial is None else b"")
    return Auth(match[1].upper(), parse_response(initial.encode()))


def parse_response(line: bytes) -> bytes:
    """The base64 line of an authentication exchange. Raises Refusal."""
    try:
        return decode_base64(line)
    except ValueError:
        raise refusal(501, "5.5.2", "Invalid base64") from None


def parse_bdat(argument: str) -> tuple[int, bool]:
    """How many octets follow the line at once, and whether they are the last ones."""
    match = _BDAT.fullmatch(argument)
    if match is None:
        raise refusal(501, "5.5.4", "Syntax: BDAT size", fatal=True)  # where the next command begins is not known
    return int(match[1]), match[2] is not None


def parse_verify(argument: str) -> Verify:
    """RFC 6531 §3.7.4.2: SMTPUTF8 may stand behind a name that is not ASCII, and a name may be so without it."""
    name = argument.removesuffix(" SMTPUTF8").rstrip()
    if not name:
        raise refusal(501, "5.5.4", "Syntax: VRFY name")
    return Verify(name)


def parse_etrn(argument: str) -> Etrn:
    """RFC 1985 §5: a domain, "@" before it for those below it as well. Queues with names ("#") there are none."""
    try:
        return Etrn(parse_domain(argument.removeprefix("@")), argument.startswith("@"))
    except AddressError:
        raise refusal(501, "5.5.4", "Syntax: ETRN domain, or @domain") from None


def parse_xclient(argument: str) -> XClient:
    """Names and values in xtext, as Postfix has it; [UNAVAILABLE] and [TEMPUNAVAIL] stand for what is not known."""
    attributes: dict[str, str | None] = {}
    for text in argument.split():
        name, equals, value = text.partition("=")
        name = name.upper()
        if not equals or name not in XCLIENT_NAMES or name in attributes or not _XTEXT.fullmatch(value):
            raise refusal(501, "5.5.4", "Syntax: XCLIENT name=value and more of them")
        known = value.upper() not in ("[UNAVAILABLE]", "[TEMPUNAVAIL]")
        attributes[name] = parse_xtext(value) if known else None
    if not attributes:
        raise refusal(501, "5.5.4", "Syntax: XCLIENT name=value and more of them")
    return XClient(attributes)


def parse_xtext(text: str) -> str:
    """RFC 3461 §4. Raises Refusal for what is no UTF-8 or holds control characters."""
    try:
        decoded = _HEXCHAR.sub(lambda match: bytes([int(match[1], 16)]), text.encode()).decode()
    except UnicodeDecodeError:
        decoded = "\0"
    if _CONTROL.search(decoded.encode()):
        raise refusal(501, "5.5.4", "A value holds what may not stand there")
    return decoded


def _hello(*, extended: bool) -> Callable[[str], Hello]:
    def parse(argument: str) -> Hello:
        if not _WORD.fullmatch(argument):
            raise refusal(501, "5.5.4", "Syntax: the greeting, then your host name or address literal")
        return Hello(argument, extended)

    return parse


def _plain(event: Event, *, argument: bool = False) -> Callable[[str], Event]:
    def parse(text: str) -> Event:
        if text and not argument:
            raise Refusal(_NO_PARAMETERS)
        return event

    return parse


@dataclass(frozen=True, slots=True)
class Command:
    """`event` is the type that `parse` makes of the argument; `parse` raises Refusal."""

    event: type[Event]
    parse: Callable[[str], Event]


COMMANDS: Mapping[str, Command] = {
    "EHLO": Command(Hello, _hello(extended=True)),
    "LHLO": Command(Hello, _hello(extended=True)),
    "HELO": Command(Hello, _hello(extended=False)),
    "MAIL": Command(Mail, parse_mail),
    "RCPT": Command(Rcpt, parse_rcpt),
    "DATA": Command(Data, _plain(Data())),
    "RSET": Command(Reset, _plain(Reset())),
    "NOOP": Command(Noop, _plain(Noop(), argument=True)),
    "VRFY": Command(Verify, parse_verify),
    "HELP": Command(Help, _plain(Help(), argument=True)),
    "QUIT": Command(Quit, _plain(Quit())),
    "STARTTLS": Command(StartTLS, _plain(StartTLS())),
    "AUTH": Command(Auth, parse_auth),
    "ETRN": Command(Etrn, parse_etrn),
    "XCLIENT": Command(XClient, parse_xclient),
}

NOT_IMPLEMENTED = frozenset({"EXPN", "TURN", "ATRN", "SEND", "SOML", "SAML"})
"""Known from the standards, never offered here: 502 and not 500 (§4.2.4)."""

HTTP_VERBS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "PRI"})
"""A browser was led here, and commands may stand in what it sends."""
