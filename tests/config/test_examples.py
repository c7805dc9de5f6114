"""The files in etc/ and the reference page say all that the model knows, and nothing else."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from mailserver.config.loader import load, load_accounts
from mailserver.config.model import Accounts, Configuration, Section
from mailserver.config.reference import page, toml_default
from mailserver.config.words import keys, section_in, sections

ROOT = Path(__file__).parents[2]
FILES: list[tuple[str, type[Section]]] = [("mailserver.toml", Configuration), ("accounts.toml", Accounts)]

HEADER = re.compile(r"#?\[+([a-z0-9.]+)")
KEY = re.compile(r"(#?)([a-z0-9_]+) *= *(.*)")


def keys_by_section(text: str) -> Iterator[tuple[str, str, bool, str]]:
    """Section, key, whether it is commented out, and value."""
    section = ""
    for line in text.splitlines():
        if match := HEADER.match(line):
            section = match[1].rstrip(".")
        elif match := KEY.fullmatch(line):
            yield section, match[2], match[1] == "#", match[3]


def name_of(header: str) -> str:
    return header.strip("[]").partition('."')[0]


@pytest.mark.parametrize(("file", "model"), FILES)
def test_every_key_of_the_model_stands_in_the_example(file: str, model: type[Section]) -> None:
    written = {(section, key) for section, key, _, _ in keys_by_section((ROOT / "etc" / file).read_text())}
    known = {
        (name_of(header), key)
        for header, section in sections(model)
        for key, field in keys(section).items()
        if section_in(field.annotation) is None
    }
    assert written == known


@pytest.mark.parametrize(("file", "model"), FILES)
def test_keys_that_are_commented_out_show_their_defaults(file: str, model: type[Section]) -> None:
    by_name = {name_of(header): section for header, section in sections(model)}
    checked = 0
    for section, key, commented, value in keys_by_section((ROOT / "etc" / file).read_text()):
        field = keys(by_name[section])[key]
        if commented and not field.is_required() and (default := toml_default(field)) is not None:
            assert value == default, key
            checked += 1
    assert checked >= (20 if model is Configuration else 1)


def test_the_example_is_a_good_configuration(tmp_path: Path) -> None:
    for file, _ in FILES:
        (tmp_path / file).write_text((ROOT / "etc" / file).read_text())
    (tmp_path / "tls").mkdir()
    certificate = trustme.CA().issue_cert("mail.example.org")
    (tmp_path / "tls" / "privkey.pem").touch(mode=0o600)
    certificate.private_key_pem.write_to_path(str(tmp_path / "tls" / "privkey.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "tls" / "fullchain.pem"))
    assert {listener.protocol for listener in load(tmp_path / "mailserver.toml").listener} == {
        "smtp",
        "submission",
        "pop3",
        "imap",
    }
    assert list(load_accounts(tmp_path / "accounts.toml").account) == ["alice@example.org"]


@pytest.mark.parametrize(("file", "model"), FILES)
def test_the_example_with_all_comments_taken_off_is_of_the_model_too(file: str, model: type[Section]) -> None:
    text = (ROOT / "etc" / file).read_text()
    bare = re.sub(r"^#(?=\[|[a-z0-9_]+ *=)", "", text, flags=re.MULTILINE)
    assert model.model_validate(tomllib.loads(bare))


def test_the_reference_page_is_current() -> None:
    assert (ROOT / "docs" / "configuration.md").read_text() == page(), "run: mailserver config reference"


def test_the_unit_is_hardened() -> None:
    unit = (ROOT / "etc" / "mailserver.service").read_text().splitlines()
    assert {
        "User=mailserver",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "AmbientCapabilities=CAP_NET_BIND_SERVICE",
        "CapabilityBoundingSet=CAP_NET_BIND_SERVICE",
        "UMask=0077",
        "ExecStart=/opt/mailserver/bin/twistd -n --pidfile= mailserver --config /etc/mailserver/mailserver.toml",
    } <= set(unit)
