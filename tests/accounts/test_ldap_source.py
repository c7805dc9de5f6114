"""An LDAP server as a source: a real slapd."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from mailserver.accounts import Directory, Disabled, FileSource, Mailbox, Members, NotLocal, SourceDown, Unknown
from mailserver.accounts.cached import FurtherSource
from mailserver.accounts.sources import open_source
from mailserver.config.directory import DirectorySource
from mailserver.mail import UNLIMITED, Address, Quota, parse_mailbox
from tests.support import slapd
from tests.support.configs import ACCOUNTS, SECRET
from tests.support.sink import wait_until
from tests.support.slapd import ADMIN, BASE, Slapd

A = parse_mailbox

LDIF = f"""\
dn: {BASE}
objectClass: dcObject
objectClass: organization
o: Example
dc: example

dn: dc=ldap,{BASE}
objectClass: dcObject
objectClass: organization
o: ldap.example
dc: ldap

"""
PERSON = f"""\
dn: cn={{name}},{BASE}
objectClass: inetOrgPerson
cn: {{name}}
sn: {{name}}
uid: {{name}}
{{more}}

"""
LDIF += "".join(
    PERSON.format(name=name, more=more)
    for name, more in {
        "carol": "mail: carol@ldap.example\nuserPassword: {SSHA}nUqfjFsAtYjFBXtG1Oh5QV1TDTxzYWx0\n"
        "employeeType: 5 GiB\ndescription: x@elsewhere.example\ndescription: y@elsewhere.example\n"
        "objectClass: inetLocalMailRecipient\nmailLocalAddress: info@ldap.example",
        "dave": f"mail: dave@ldap.example\nuserPassword: {SECRET}",
        "erin": f"mail: erin@ldap.example\nuserPassword: {SECRET}\ntitle: TRUE",
        "fay": "mail: fay@ldap.example",
        "two": "mail: two@ldap.example\nmail: another@ldap.example",
        "star": f"mail: s*r@ldap.example\nuserPassword: {SECRET}",
        "same1": "mail: same@ldap.example",
        "same2": "mail: same@ldap.example",
    }.items()
)
LDIF += f"""\
dn: cn=team,{BASE}
objectClass: nisMailAlias
cn: team@ldap.example
rfc822MailMember: carol@ldap.example
rfc822MailMember: x@elsewhere.example
"""

SETTINGS: dict[str, Any] = {
    "kind": "ldap",
    "base": BASE,
    "bind_dn": ADMIN,
    "account_filter": "(&(objectClass=inetOrgPerson)(|(mail=:address)(mailLocalAddress=:address)))",
    "alias_filter": "(&(objectClass=nisMailAlias)(cn=:address))",
    "domain_filter": "(&(objectClass=dcObject)(o=:domain))",
    "member_attribute": "rfc822MailMember",
    "quota_attribute": "employeeType",
    "forward_attribute": "description",
    "disabled_attribute": "title",
}


@pytest.fixture(scope="module")
def server() -> Iterator[Slapd]:
    if reason := slapd.missing():
        pytest.skip(reason)
    with Slapd(LDIF.replace("{SSHA}nUqfjFsAtYjFBXtG1Oh5QV1TDTxzYWx0", _ssha())) as running:
        yield running


def _ssha() -> str:
    import base64
    import hashlib

    digest = hashlib.sha1(SECRET.encode() + b"salt", usedforsecurity=False).digest()
    return "{SSHA}" + base64.b64encode(digest + b"salt").decode()


def source(running: Slapd, **more: Any) -> FurtherSource:
    place = {"server": running.tls_url, "ca_file": running.ca_file, "password_file": running.password_file}
    return open_source(DirectorySource.model_validate(SETTINGS | place | more))


def directory(running: Slapd, tmp_path: Path, **more: Any) -> Directory:
    (tmp_path / "accounts.toml").write_text(ACCOUNTS)
    return Directory(FileSource(tmp_path / "accounts.toml"), others=[source(running, **more)])


def test_where_addresses_lead(server: Slapd, tmp_path: Path) -> None:
    found = directory(server, tmp_path)
    carol, out = A("carol@ldap.example"), (A("x@elsewhere.example"), A("y@elsewhere.example"))
    for text, expected in {
        "carol@ldap.example": Mailbox(carol, Quota(5 * 2**30), out),
        "CAROL+x@LDAP.example": Mailbox(carol, Quota(5 * 2**30), out),
        "info@ldap.example": Mailbox(carol, Quota(5 * 2**30), out),
        "dave@ldap.example": Mailbox(A("dave@ldap.example"), UNLIMITED),
        "erin@ldap.example": Disabled(),
        "team@ldap.example": Members((carol, out[0])),
        "nobody@ldap.example": Unknown(),
        "nobody@other.example": NotLocal(),
    }.items():
        assert found.resolve(A(text)) == expected, text
    postmaster = found.resolve(A("postmaster@ldap.example"))  # of the accounts file, as the server tells none
    assert isinstance(postmaster, Mailbox) and postmaster.account == A("alice@example.org")


@pytest.mark.parametrize("way", ["ldaps", "starttls", "clear"])
def test_logging_in_by_a_bind(server: Slapd, tmp_path: Path, way: str) -> None:
    plain = {"server": server.url, "starttls": False, "ca_file": None}
    more = {"ldaps": {}, "starttls": {"server": server.url}, "clear": plain}[way]
    found = directory(server, tmp_path, **more)
    for name in ("carol", "dave", "info"):
        owner = A("carol@ldap.example" if name == "info" else f"{name}@ldap.example")
        assert found.authenticate(f"{name}@ldap.example", SECRET) == owner
        for wrong in ("other", "", "x" * 2000, "\0", "\ud800"):
            assert found.authenticate(f"{name}@ldap.example", wrong) is None
    for name in ("erin", "fay", "nobody", "team"):
        for password in (SECRET, ""):
            assert found.authenticate(f"{name}@ldap.example", password) is None


@pytest.mark.parametrize(
    "local",
    ["*", "c*", "carol)(uid=*", "*)(|(mail=*", "\\2a", "carol\\", "(", ")", "&", "carol\0", "\ud800", "x" * 5000, "é"],
)
def test_what_is_asked_for_is_never_part_of_a_filter(server: Slapd, tmp_path: Path, local: str) -> None:
    found = directory(server, tmp_path)
    assert found.resolve(Address(local, "ldap.example")) == Unknown()
    assert found.resolve(Address("a", f"{local}.example")) == NotLocal()


def test_a_star_in_a_name_is_a_star(server: Slapd, tmp_path: Path) -> None:
    found = directory(server, tmp_path)
    assert found.resolve(A("s*r@ldap.example")) == Mailbox(A("s*r@ldap.example"), UNLIMITED)
    assert found.authenticate("s*r@ldap.example", SECRET) == A("s*r@ldap.example")


@pytest.mark.parametrize(("name", "complaint"), [("two", "it has 2 values of address"), ("same", "more than once")])
def test_what_makes_no_sense_is_no_answer(server: Slapd, tmp_path: Path, name: str, complaint: str) -> None:
    with pytest.raises(SourceDown, match=complaint):
        directory(server, tmp_path).resolve(A(f"{name}@ldap.example"))


def test_an_address_may_come_of_a_name_and_the_usual_domain(server: Slapd, tmp_path: Path) -> None:
    more = {"address_attribute": "uid", "default_domain": "ldap.example"}
    found = directory(server, tmp_path, **more).resolve(A("another@ldap.example"))
    assert found == Mailbox(A("two@ldap.example"), UNLIMITED)


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ({}, ""),
        ({"base": "dc=other"}, 'the base "dc=other" is not there'),
        ({"bind_dn": "cn=stranger,dc=example"}, "binding as cn=stranger,dc=example is refused: invalidCredentials"),
        ({"account_filter": "(&(mail=:address)x)"}, "filter"),
        ({"ca_file": None}, "certificate"),
    ],
)
def test_trying_out_tells_what_is_wrong(server: Slapd, more: dict[str, Any], complaint: str) -> None:
    if not complaint:
        assert source(server, **more).try_out() == []
        return
    with pytest.raises(SourceDown, match=complaint) as caught:
        source(server, **more).try_out()
    assert slapd.PASSWORD not in str(caught.value)


@pytest.mark.parametrize("way", ["ldaps", "starttls"])
def test_a_server_that_cannot_prove_its_name_gets_no_password(server: Slapd, tmp_path: Path, way: str) -> None:
    url = (server.tls_url if way == "ldaps" else server.url).replace("localhost", "127.0.0.1")
    with pytest.raises(SourceDown):
        source(server, server=url).try_out()
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    with pytest.raises(SourceDown, match="certificate"):
        source(server, server=url, ca_file=tmp_path / "other.pem").try_out()


def test_a_server_that_is_down_is_never_no_such_user(server: Slapd, tmp_path: Path) -> None:
    found = directory(server, tmp_path, cache="0.001 s", timeout="20 s")
    dave = found.resolve(A("dave@ldap.example"))
    assert found.resolve(A("nobody@ldap.example")) == Unknown()
    server.stop()
    try:
        for _ in range(3):
            assert found.resolve(A("dave@ldap.example")) == dave
            for text in ("nobody@ldap.example", "fay@ldap.example", "x@other.example"):
                with pytest.raises(SourceDown, match="ldaps://localhost"):
                    found.resolve(A(text))
            for user in ("dave", "nobody"):
                with pytest.raises(SourceDown):
                    found.authenticate(f"{user}@ldap.example", SECRET)
    finally:
        server.start()
    time.sleep(1.1)
    assert found.authenticate("dave@ldap.example", SECRET) is not None
    server.stop()
    server.start()
    assert found.resolve(A("nobody@ldap.example")) == Unknown()  # at once


def answers(found: Directory, address: str) -> bool:
    """There is a mailbox; false while nobody can tell."""
    try:
        return isinstance(found.resolve(A(address)), Mailbox)
    except SourceDown:
        return False


def test_a_server_that_hangs_costs_a_timeout_now_and_then(server: Slapd, tmp_path: Path) -> None:
    found = directory(server, tmp_path, cache="0.001 s", timeout="1 s")
    wait_until(lambda: answers(found, "dave@ldap.example"), what="an answer")
    server.freeze(True)
    try:
        start = time.monotonic()
        with pytest.raises(SourceDown):
            found.resolve(A("fay@ldap.example"))
        assert time.monotonic() - start < 20
        start = time.monotonic()
        for _ in range(50):
            with pytest.raises(SourceDown):
                found.resolve(A("fay@ldap.example"))
        assert time.monotonic() - start < 20, "not a second for each"
        time.sleep(1.1)
        start = time.monotonic()
        with pytest.raises(SourceDown):  # a new connection: it is taken by the system, and no more
            found.resolve(A("fay@ldap.example"))
        assert time.monotonic() - start < 20
    finally:
        server.freeze(False)
    wait_until(lambda: answers(found, "fay@ldap.example"), what="an answer")
