from __future__ import annotations

import re
import ssl
from pathlib import Path

import pytest
from cryptography import x509

from mailserver import demo
from mailserver.accounts import Directory, FileSource
from mailserver.config.loader import load
from mailserver.config.network import parse_endpoint


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, demo.DemoNotes]:
    directory = tmp_path_factory.mktemp("demo") / "var" / "demo"
    return directory, demo.prepare(directory)


def test_the_configuration_is_good_and_on_loopback_only(made: tuple[Path, demo.DemoNotes]) -> None:
    directory, notes = made
    configuration = load(notes.configuration)
    assert configuration.data == directory
    assert configuration.auth.without_tls == "loopback"
    assert configuration.demo is not None and configuration.demo.outbox == "outbox@example.test"
    endpoints = [parse_endpoint(listener.endpoint) for listener in configuration.listener]
    assert {endpoint.where for endpoint in endpoints} == {"127.0.0.1"}
    assert [(x.protocol, e.port, x.tls) for x, e in zip(configuration.listener, endpoints, strict=True)] == [
        ("smtp", 2525, "starttls"),
        ("submission", 1587, "starttls"),
        ("submission", 1465, "implicit"),
        ("pop3", 1110, "starttls"),
        ("pop3", 1995, "implicit"),
        ("imap", 1143, "starttls"),
        ("imap", 1993, "implicit"),
    ]


def test_the_passwords_that_are_shown_are_right(made: tuple[Path, demo.DemoNotes]) -> None:
    directory, notes = made
    accounts = Directory(FileSource(directory / "accounts.toml"))
    assert list(notes.passwords) == ["alice@example.test", "bob@example.test", "outbox@example.test"]
    for address, password in notes.passwords.items():
        assert str(accounts.authenticate(address, password)) == address
        assert password in notes.text


def test_commands_are_ready_to_paste(made: tuple[Path, demo.DemoNotes]) -> None:
    _, notes = made
    assert re.findall(r"^(?:curl|swaks) ", notes.text, re.MULTILINE) == ["swaks ", "curl ", "curl ", "curl "]
    assert "\nEND\n" in notes.text  # a here-document ends with a line of this alone
    for port in ("2525", "1587", "1993", "1995"):
        assert f"127.0.0.1:{port}" in notes.text


def test_the_certificate_is_of_all_names_and_fits_its_key(made: tuple[Path, demo.DemoNotes]) -> None:
    directory, _ = made
    tls = directory / "tls"
    ssl.create_default_context().load_cert_chain(tls / "certificate.pem", tls / "key.pem")
    certificate = x509.load_pem_x509_certificate((tls / "certificate.pem").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {"localhost", "example.test", "mail.example.test"}
    assert set(map(str, names.get_values_for_type(x509.IPAddress))) == {"127.0.0.1", "::1"}


def test_only_the_owner_may_read_anything(made: tuple[Path, demo.DemoNotes]) -> None:
    directory, _ = made
    modes = {path: path.stat().st_mode & 0o777 for path in [directory, *directory.rglob("*")]}
    assert len(modes) == 6
    assert all(mode == (0o700 if path.is_dir() else 0o600) for path, mode in modes.items())


def test_a_second_start_changes_nothing_and_shows_no_password(tmp_path: Path) -> None:
    first = demo.prepare(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    second = demo.prepare(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert second.configuration == first.configuration
    assert second.passwords == {}
    assert "account passwd alice@example.test" in second.text
    assert not any(password in second.text for password in first.passwords.values())
    commands = first.text.partition("Send to Alice")[2].partition(" A new password:")[0]
    for password in first.passwords.values():
        commands = commands.replace(password, "PASSWORD")
    assert "alice@example.test:PASSWORD" in commands and commands in second.text


def test_what_is_missing_is_made_anew(tmp_path: Path) -> None:
    notes = demo.prepare(tmp_path)
    (tmp_path / "tls" / "key.pem").unlink()
    notes.configuration.unlink()
    assert demo.prepare(tmp_path).passwords == {}
    assert load(notes.configuration).hostname == "mail.example.test"


def test_several_demos_have_ports_of_their_own(tmp_path: Path) -> None:
    ports = {service: port + 10_000 for service, port in demo.PORTS.items()}
    notes = demo.prepare(tmp_path, ports)
    assert [parse_endpoint(x.endpoint).port for x in load(notes.configuration).listener] == list(ports.values())
    assert "127.0.0.1:12525" in notes.text


def test_a_directory_that_cannot_be_made_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="exists"):
        demo.prepare(tmp_path / "file")
