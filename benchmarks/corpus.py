"""Mail to measure with: messages of about 4 KB as people and programs write them, and Maildirs of them.

Promises   The same number makes the same message, on every machine. `RARE` stands in three bodies of a Maildir, encoded
           or not, `COMMON` in about a fifth of the subjects, `NOWHERE` in none.
"""

from __future__ import annotations

import base64
import os
import quopri
import random
import re
import shutil
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path

RARE, COMMON, NOWHERE = "zugzwang", "invoice", "xylograph"
FIRST_DATE = 1_600_000_000
SIZE = 4096
PARTS = ("tmp", "new", "cur")

_SIZES = re.compile(r",S=\d+,W=\d+")

_TEXT = (
    "about after again before between board budget change client contract customer decision delivery design draft "
    "during early engine evening every figure first forward garden general history however important in it its last "
    "letter library little machine market meeting minute morning nothing number of on order paper people perhaps place "
    "plan please point project question reason record report result review right schedule season server several should "
    "small station street summer system table tests thanks that the their these those though time to together travel "
    "understand until version water week welcome what when where which while winter with without word work year you"
)
_WORDS = _TEXT.split()
_UMLAUTS = ("Grüße", "für", "Straße", "Öl", "façade", "déjà", "año", "señor", "smørrebrød", "größer")
_ZONES = ("+0000", "+0200", "-0500", "+0530")
_PEOPLE = (
    ("Ann Archer", "ann", "example.org"),
    ("Bob B. Baker", "bob.baker", "mail.example.net"),
    ("Jürgen Groß", "juergen", "example.de"),
    ("山田太郎", "taro", "example.jp"),
    ("", "no-reply", "shop.example.com"),
    ("O'Neil, Pat", "pat", "example.ie"),
    ("José Núñez", "jose", "example.es"),
    ("Build Robot", "ci+builds", "ci.example.org"),
)
_TRANSPORT = """\
Return-Path: <{sender}>
Received: from relay{n}.example.org (relay{n}.example.org [192.0.2.{n}])
\tby mx.bench.test (Postfix) with ESMTPS id {id:X}
\tfor <u@bench.test>; {date}
Received: from [198.51.100.{n}] (helo=desk{n}.example.net)
\tby relay{n}.example.org with esmtpsa (TLS1.3:AES256)
\tid {id:x}-0001; {date}
"""


def message(number: int, marked: bool = False) -> bytes:
    """A message with LF line ends. `marked`: `RARE` is in its body."""
    rng = random.Random(number)
    text = _text(rng, rng.choice((1200, 1800, 2400)))
    if marked:
        text = f"A {RARE} of a letter.\n{text}"
    mime = rng.choices([make for make, _ in _KINDS], [weight for _, weight in _KINDS])[0](rng, text)
    return _header(rng, number).encode() + mime


def maildir(directory: Path, count: int, owner: int, make: Callable[[int], bytes] | None = None) -> None:
    """Makes a Maildir of `count` messages in cur/, the oldest first by name, for the user id `owner`.

    The names are as Dovecot writes them, with the sizes on disk and in CRLF form. `make`: other messages than those
    of this module, by number.
    """
    for part in PARTS:
        (directory / part).mkdir(parents=True)
    marked = {count // 7, count // 3, count - 2}
    rng = random.Random(count)
    for number in range(count):
        octets = make(number) if make is not None else message(number, number in marked)
        date = FIRST_DATE + 600 * number
        sizes = f",S={len(octets)},W={len(octets) + octets.count(10)}"
        seen = rng.choice(("S", "S", "S", "RS", "FS", ""))
        path = directory / "cur" / f"{date}.M{number:06}P1.bench{sizes}:2,{seen}"
        path.write_bytes(octets)
        os.utime(path, (date, date))
        if os.geteuid() == 0:
            os.chown(path, owner, owner)
    _own(directory, owner)


def part_of(source: Path, target: Path, count: int, owner: int) -> None:
    """A Maildir of the oldest `count` messages of another, linked."""
    for part in PARTS:
        (target / part).mkdir(parents=True)
    for name in sorted(entry.name for entry in os.scandir(source / "cur"))[:count]:
        os.link(source / "cur" / name, target / "cur" / name)
    _own(target, owner)


def twin(source: Path, target: Path, owner: int, *, bare: bool = False) -> None:
    """The same Maildir once more, the messages linked: whoever reads them reads the same blocks of the disk.

    `bare`: as Postfix would have written it, without sizes in the names and without Dovecot's UIDs.
    """
    for part in PARTS:
        (target / part).mkdir(parents=True)
    for entry in os.scandir(source / "cur"):
        os.link(entry.path, target / "cur" / (_SIZES.sub("", entry.name) if bare else entry.name))
    uids = source / "dovecot-uidlist"
    if uids.exists() and not bare:
        shutil.copy2(uids, target)
    _own(target, owner)


def _own(directory: Path, owner: int) -> None:
    """Gives the directory, and all but the messages in cur/, to the user id `owner`, where root asks."""
    if os.geteuid() == 0:
        for path in (directory, *directory.iterdir()):
            os.chown(path, owner, owner)


def _header(rng: random.Random, number: int) -> str:
    date = formatdate(FIRST_DATE + 600 * number).replace("-0000", rng.choice(_ZONES))
    people = rng.sample(_PEOPLE, 4)
    sender = f"{people[0][1]}@{people[0][2]}"
    lines = _TRANSPORT.format(sender=sender, n=number % 250 + 1, id=number, date=date)
    if rng.random() < 0.5:
        signature = base64.b64encode(rng.randbytes(192)).decode()
        folded = "\n\t ".join(signature[at : at + 68] for at in range(0, len(signature), 68))
        lines += f"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d={people[0][2]}; s=mail;\n\t b={folded}\n"
    subject = " ".join(rng.choices(_WORDS, k=rng.randint(2, 7)))
    if rng.random() < 0.2:
        subject += f" {COMMON} {number}"
    if rng.random() < 0.15:
        subject = _encoded_word(f"{rng.choice(_UMLAUTS)} {rng.choice(_UMLAUTS)}", rng) + " " + subject
    if rng.random() < 0.3:
        subject = "Re: " + subject
    lines += f"Date: {date}\nFrom: {_address(people[0], rng)}\nTo: {_address(people[1], rng)}"
    lines += f",\n {_address(people[2], rng)}\n" if rng.random() < 0.3 else "\n"
    if rng.random() < 0.2:
        lines += f"Cc: {_address(people[3], rng)}\n"
    if rng.random() < 0.3:
        lines += f"Reply-To: {_address(people[2], rng)}\n"
    lines += f"Subject: {subject}\nMessage-ID: <{number}.{rng.getrandbits(48):x}@{people[0][2]}>\n"
    if rng.random() < 0.4 and number:
        parents = [f"<{rng.randrange(number)}.{rng.getrandbits(48):x}@example.org>" for _ in range(rng.randint(1, 4))]
        lines += f"In-Reply-To: {parents[-1]}\nReferences: " + "\n ".join(parents) + "\n"
    if rng.random() < 0.2:
        lines += "List-Id: Talk of the town <talk.example.org>\nPrecedence: list\n"
    return lines + "X-Mailer: Bench 1.0\nMIME-Version: 1.0\n"


def _address(person: tuple[str, str, str], rng: random.Random) -> str:
    name, local, domain = person
    if not name:
        return f"{local}@{domain}"
    if not name.isascii():
        return f"{_encoded_word(name, rng)} <{local}@{domain}>"
    return f'"{name}" <{local}@{domain}>' if "," in name or "." in name else f"{name} <{local}@{domain}>"


def _encoded_word(text: str, rng: random.Random) -> str:
    if rng.random() < 0.5:
        try:
            return f"=?iso-8859-1?Q?{quopri.encodestring(text.encode('latin-1'), header=True).decode()}?="
        except UnicodeEncodeError:
            pass
    return f"=?utf-8?B?{base64.b64encode(text.encode()).decode()}?="


def _text(rng: random.Random, size: int) -> str:
    lines: list[str] = []
    left = size
    while left > 0:
        line = " ".join(rng.choices(_WORDS, k=rng.randint(6, 11)))
        lines.append(line)
        left -= len(line) + 1
        if rng.random() < 0.15:
            lines.append("")
    return "\n".join(lines) + "\n"


def _plain(rng: random.Random, text: str) -> bytes:
    text += _text(rng, SIZE - 1400 - len(text))
    return b"Content-Type: text/plain; charset=us-ascii\nContent-Transfer-Encoding: 7bit\n\n" + text.encode()


def _accented(rng: random.Random, text: str) -> str:
    return "\n".join(f"{line} {rng.choice(_UMLAUTS)}" if line else "" for line in text.splitlines()) + "\n"


def _quoted(rng: random.Random, text: str) -> bytes:
    charset = rng.choice(("utf-8", "iso-8859-1", "windows-1252"))
    body = quopri.encodestring((_accented(rng, text)).encode(charset))
    return (
        f"Content-Type: text/plain; charset={charset}\nContent-Transfer-Encoding: quoted-printable\n\n".encode() + body
    )


def _base64(rng: random.Random, text: str) -> bytes:
    body = base64.encodebytes(_accented(rng, text).encode())
    return b'Content-Type: text/plain; charset="UTF-8"; format=flowed\nContent-Transfer-Encoding: base64\n\n' + body


def _alternative(rng: random.Random, text: str) -> bytes:
    boundary = f"=_{rng.getrandbits(64):x}".encode()
    html = f"<html><body><p>{text[: len(text) // 2].replace(chr(10), '<br>' + chr(10))}</p></body></html>\n"
    return (
        b'Content-Type: multipart/alternative;\n boundary="%b"\n\nTwo forms of one text.\n--%b\n%b\n--%b\n%b\n--%b--\n'
        % (
            boundary,
            boundary,
            _quoted(rng, text),
            boundary,
            b"Content-Type: text/html; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\n"
            + quopri.encodestring(html.encode()),
            boundary,
        )
    )


def _attached(rng: random.Random, text: str) -> bytes:
    boundary = f"----=_Part_{rng.getrandbits(32)}".encode()
    name = rng.choice(("report.pdf", "picture 1.png", "minutes.doc"))
    file = (
        f'Content-Type: application/octet-stream; name="{name}"\n'
        f'Content-Disposition: attachment; filename="{name}"\nContent-Transfer-Encoding: base64\n\n'
    ).encode() + base64.encodebytes(rng.randbytes(900))
    first = (_alternative if rng.random() < 0.3 else _quoted)(rng, text[:1200].rpartition("\n")[0] + "\n")
    return b'Content-Type: multipart/mixed; boundary="%b"\n\n--%b\n%b\n--%b\n%b--%b--\n' % (
        boundary,
        boundary,
        first,
        boundary,
        file,
        boundary,
    )


_KINDS: tuple[tuple[Callable[[random.Random, str], bytes], int], ...] = (
    (_plain, 30),
    (_quoted, 20),
    (_base64, 10),
    (_alternative, 30),
    (_attached, 10),
)
