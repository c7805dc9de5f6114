from __future__ import annotations

import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import tomlkit
import trustme
from hypothesis import given
from hypothesis import strategies as st

from mailserver.config.advice import advice
from mailserver.config.loader import ConfigurationError, load, load_accounts, parse_accounts, read
from tests.support.configs import ACCOUNTS, MINIMAL, SECRET_HASH, write_configuration


def problems(directory: Path, main: str = MINIMAL, accounts: str | None = ACCOUNTS, **options: Any) -> list[str]:
    """What `load` complains of, without the name of the directory."""
    path = write_configuration(directory, main, accounts)
    with pytest.raises(ConfigurationError) as caught:
        load(path, **options)
    return [line.replace(f"{directory}/", "") for line in caught.value.problems]


def write_certificate(directory: Path, *names: str, expires: datetime | None = None) -> None:
    certificate = trustme.CA().issue_cert(*names or ["mail.example.org"], not_after=expires)
    (directory / "key.pem").touch(mode=0o600)
    certificate.private_key_pem.write_to_path(str(directory / "key.pem"))
    (directory / "cert.pem").write_bytes(b"".join(pem.bytes() for pem in certificate.cert_chain_pems))


def test_a_minimal_configuration_has_safe_defaults(tmp_path: Path) -> None:
    configuration = load(write_configuration(tmp_path))
    assert configuration.hostname == "mail.example.org"
    assert configuration.auth.without_tls == "never"
    assert configuration.relay.lifetime == 5 * 86400
    assert configuration.limits.message_size == 50 * 2**20
    assert configuration.tls is None


def test_relative_paths_are_beside_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_certificate(tmp_path)
    (tmp_path / "password").write_text("secret")
    tls = '[tls]\ncertificate = "cert.pem"\nprivate_key = "key.pem"\n'
    relay = '[relay]\nsmarthost = "a.example:25"\nsmarthost_user = "u"\nsmarthost_password_file = "password"\n'
    write_configuration(tmp_path, MINIMAL + tls + relay)
    monkeypatch.chdir(tmp_path.parent)
    configuration = load(Path(tmp_path.name) / "mailserver.toml")
    assert configuration.data == tmp_path / "data"
    assert configuration.accounts == tmp_path / "accounts.toml"
    assert configuration.tls is not None and configuration.tls.certificate == tmp_path / "cert.pem"
    assert configuration.relay.smarthost_password_file == tmp_path / "password"


@pytest.mark.parametrize(
    ("main", "fault"),
    [
        (MINIMAL.replace("data = ", 'data = "a\\u0000b"  # '), 'mailserver.toml: data: "a\\u0000b" has a NUL'),
        ('accounts = "a\\u0000b"\n' + MINIMAL, 'mailserver.toml: accounts: "a\\u0000b" has a NUL'),
        (
            MINIMAL.replace("data = ", f'data = "{"x" * 300}"  # '),
            "mailserver.toml: data: the directory cannot be read",
        ),
        (MINIMAL + "x = " + "[" * 5000, "mailserver.toml: not TOML that can be read"),
    ],
)
def test_paths_that_cannot_be_and_endless_nesting_are_faults_like_others(tmp_path: Path, main: str, fault: str) -> None:
    assert problems(tmp_path, main)[0].startswith(fault)


def test_all_faults_of_both_files_are_told_at_once(tmp_path: Path) -> None:
    main = """\
hostname = "mail"
dat = "/var/lib/mailserver"
workers = 0
message_size = "50 MiB"
[[listener]]
protocol = "smtp"
endpoint = "tcp:99999"
tls = "starttlss"
[limits]
message_sise = "50 MiB"
errors = "10"
smtp_timeout = 300
imap_timeout = "0 s"
[relay]
resolver = ["127.0.0.1:53", "dns.example"]
port = 65536
"""
    accounts = """\
[domain."example.org"]
[account."alice@example.org"]
password = "secret"
quota = "much"
"""
    assert problems(tmp_path, main, accounts) == [
        'mailserver.toml: hostname: "mail" must be a fully qualified name with an entry in the DNS, '
        'as "mail.example.org"',
        "mailserver.toml: data: is missing; add it: mail/, queue/ and state lie there",
        "mailserver.toml: workers: 0 is no number of processes; write a number from 1 to 64, "
        'or "auto" for one on each processor',
        "mailserver.toml: listener[1].endpoint: \"tcp:99999\" has '99999' for a port; write a number from 1 to 65535",
        "mailserver.toml: listener[1].tls: \"starttlss\" is none of the known words; write 'starttls', "
        "'implicit' or 'none'",
        'mailserver.toml: relay.resolver[2]: "dns.example" must be ADDRESS:PORT, as "127.0.0.1:53" or "[::1]:53"',
        "mailserver.toml: relay.port: 65536 is too large; it must be at most 65535",
        'mailserver.toml: limits.errors: "10" is not a whole number; write digits without quotes',
        'mailserver.toml: limits.smtp_timeout: 300 is not a duration; write "NUMBER UNIT" with one of the units '
        "s, sec, min, h, hour, hours, day, days",
        'mailserver.toml: limits.imap_timeout: "0 s" is too small; it must be more than 0',
        "mailserver.toml: limits.message_sise: unknown key; did you mean message_size?",
        "mailserver.toml: dat: unknown key; did you mean data?",
        "mailserver.toml: message_size: unknown key here; it belongs under [limits]",
        'accounts.toml: account."alice@example.org".password: is not an argon2id hash; '
        "let `mailserver account passwd ADDRESS` write it",
        'accounts.toml: account."alice@example.org".quota: "much" is not a size; write "NUMBER UNIT" '
        "with one of the units B, KB, KiB, MB, MiB, GB, GiB, TB, TiB",
    ]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("hostname = 5", "hostname: 5 is not text; write it in double quotes"),
        ("hostname = true", "hostname: true is not text; write it in double quotes"),
        ("accounts = []", "accounts: is not a path; write it in double quotes"),
        (
            'indexing = {background = "off"}',
            'indexing.background: "off" is neither true nor false; write one of these, without quotes',
        ),
        (
            'indexing = {round = "5 s"}',
            'indexing.round: "5 s" is too often to look through all mailboxes; write "1 min" or more',
        ),
        ("indexing = false", "indexing: is not a section; write it as a header in brackets with keys below"),
        ('tls = "starttls"', "tls: is not a section; write it as a header in brackets with keys below"),
        ('listener = "tcp:25"', 'listener: "tcp:25" is not a list; write it in brackets, as ["one", "two"]'),
        ("listener = []", "listener: is empty; at least one is needed"),
        ("listener = [25]", "listener[1]: is not a section; write it as a header in brackets with keys below"),
        (
            'workers = "many"',
            'workers: "many" is no number of processes; write a number from 1 to 64, or "auto" for one on each '
            "processor",
        ),
        (
            "limits.imap_messages = 999",
            "limits.imap_messages: 999 is too few for clients to work with; write 1000 or more, or 0 for any number",
        ),
        (
            "workers = true",
            'workers: true is no number of processes; write a number from 1 to 64, or "auto" for one on each processor',
        ),
        (
            'worker_timeout = "5 s"',
            'worker_timeout: "5 s" is too short to tell one that hangs from one that works; write "10 s" or more',
        ),
        ("relay.port = true", "relay.port: true is not a whole number; write digits without quotes"),
        ("relay.port = 25.0", "relay.port: 25.0 is not a whole number; write digits without quotes"),
        ('limits.header = "1 KiB"', 'limits.header: "1 KiB" is too small; it must be at least "64 KiB"'),
        ("route = {via = 'mx'}", "route: is a single section; write its header as [[route]]"),
        ("relay.resolver = {}", "relay.resolver: is not a list; write it in brackets"),
        ("relay.colour = 1", "relay.colour: unknown key; known here: resolver, smarthost, smarthost_user, "),
        ("auth.hostname = 1", "auth.hostname: unknown key here; it belongs above the first section"),
        ("auth.names = 1", "auth.names: unknown key here; it belongs under [[tls.sni]]"),
        ('"a b" = 1', '"a b": unknown key; known here: hostname, data, '),
    ],
)
def test_wrong_types_and_unknown_keys(tmp_path: Path, line: str, complaint: str) -> None:
    key = line.partition(" = ")[0]
    rest = [kept for kept in MINIMAL.splitlines() if not kept.startswith(f"{key} =")]
    if key == "listener":
        rest = rest[:2]
    (problem, *_) = [p for p in problems(tmp_path, "\n".join([line, *rest])) if p.startswith(f"mailserver.toml: {key}")]
    assert problem.startswith(f"mailserver.toml: {complaint}")


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ('quota_messages = "5"', 'quota_messages: "5" is not a whole number'),
        ("messages_per_day = 5.0", "messages_per_day: 5.0 is not a whole number"),
        ("recipients = true", "recipients: true is not a whole number"),
        (
            '[account."bob@example.org".app_password]\nname = "phone"',
            'app_password: is a single section; write its header as [[account."bob@example.org".app_password]]',
        ),
        (
            '[[account."bob@example.org".app_password]]\ncreated = "today"',
            'app_password[1].created: "today" is not a time; write it as 2026-11-29T10:00:00Z, without quotes',
        ),
    ],
)
def test_wrong_types_in_an_account(tmp_path: Path, lines: str, complaint: str) -> None:
    found = problems(tmp_path, accounts=f"{ACCOUNTS}{lines}\n")
    assert any(line.startswith(f'accounts.toml: account."bob@example.org".{complaint}') for line in found), found


@pytest.mark.parametrize("protocol", ["managesieve", "http"])
def test_a_protocol_of_a_later_version_is_told_as_such(tmp_path: Path, protocol: str) -> None:
    assert problems(tmp_path, MINIMAL.replace('"smtp"', f'"{protocol}"')) == [
        f'mailserver.toml: listener[1].protocol: "{protocol}" is not served by this version; '
        'write "smtp", "submission", "lmtp", "pop3" or "imap"'
    ]


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_a_listener_with_tls_needs_a_certificate(tmp_path: Path, tls: str) -> None:
    assert problems(tmp_path, MINIMAL.replace('"none"', f'"{tls}"')) == [
        f'mailserver.toml: listener[1].tls: is "{tls}", but there is no [tls] section; '
        "add that section with certificate and private_key"
    ]


def test_a_listener_where_nobody_could_log_in_is_a_fault(tmp_path: Path) -> None:
    main = MINIMAL.replace('"smtp"', '"imap"')
    assert problems(tmp_path, main) == [
        'mailserver.toml: listener[1].tls: is "none", and without TLS nobody may log in there; '
        'write tls = "starttls", or auth.without_tls = "loopback"'
    ]
    assert problems(tmp_path, main + "[auth]\nscram = true\n") == problems(tmp_path, main)
    assert load(write_configuration(tmp_path, main + '[auth]\nwithout_tls = "loopback"\n')).listener[0].tls == "none"


def test_a_listener_behind_a_proxy_that_nobody_named_is_a_fault(tmp_path: Path) -> None:
    main = MINIMAL + "proxy = true\n"
    assert problems(tmp_path, main) == [
        "mailserver.toml: listener[1].proxy: is true, but proxies.networks is empty, so nobody gets in; "
        "write the addresses of the load balancers there"
    ]
    assert load(write_configuration(tmp_path, main + '[proxies]\nnetworks = ["192.0.2.10"]\n')).listener[0].proxy


def test_endpoints_that_collide(tmp_path: Path) -> None:
    more = '[[listener]]\nprotocol = "smtp"\nendpoint = "tcp6:25"\ntls = "none"\n'
    assert problems(tmp_path, MINIMAL + more) == [
        "mailserver.toml: listener[2].endpoint: collides with listener[1].endpoint; "
        "give each its own port or interface; tcp6 takes IPv4 in as well"
    ]


def test_the_server_may_check_endpoints_itself(tmp_path: Path) -> None:
    seen: list[str] = []

    def check(endpoint: str) -> str | None:
        seen.append(endpoint)
        return "cannot be had on this machine"

    assert problems(tmp_path, check_endpoint=check) == [
        "mailserver.toml: listener[1].endpoint: cannot be had on this machine"
    ]
    assert seen == ["tcp:25"]


TLS = '[tls]\ncertificate = "cert.pem"\nprivate_key = "key.pem"\n'


def test_certificate_files_that_are_missing_or_no_files(tmp_path: Path) -> None:
    (tmp_path / "key.pem").mkdir()
    assert problems(tmp_path, MINIMAL + TLS) == [
        "mailserver.toml: tls.certificate: cert.pem does not exist; name a readable file",
        "mailserver.toml: tls.private_key: key.pem is not a file; name a readable file",
    ]


def test_certificate_files_without_what_they_should_hold(tmp_path: Path) -> None:
    write_certificate(tmp_path)
    key, certificate = (tmp_path / "key.pem").read_bytes(), (tmp_path / "cert.pem").read_bytes()
    (tmp_path / "cert.pem").write_bytes(key)
    assert problems(tmp_path, MINIMAL + TLS) == [
        "mailserver.toml: tls.certificate: cert.pem has no PEM certificate; "
        "name the file with the certificate and its chain"
    ]
    (tmp_path / "cert.pem").write_bytes(certificate)
    (tmp_path / "key.pem").write_bytes(certificate)
    assert problems(tmp_path, MINIMAL + TLS) == [
        "mailserver.toml: tls.private_key: key.pem has no PEM private key; "
        "name the file with the key of the certificate"
    ]


def test_a_name_has_one_certificate(tmp_path: Path) -> None:
    write_certificate(tmp_path)
    files = 'certificate = "cert.pem"\nprivate_key = "key.pem"\n'
    sni = f'[[tls.sni]]\nnames = ["a.example", "*.b.example"]\n{files}[[tls.sni]]\nnames = ["*.B.example"]\n{files}'
    assert problems(tmp_path, MINIMAL + TLS + sni) == [
        'mailserver.toml: tls.sni[2].names: "*.b.example" stands in tls.sni[1] too; each name has one certificate'
    ]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (0o644, "other users can read (mode 0644)"),
        (0o604, "other users can read (mode 0604)"),
        (0o602, "other users can replace (mode 0602)"),
        (0o660, "its group can replace (mode 0660)"),
    ],
)
def test_a_private_key_that_others_can_reach_is_refused(mode: int, expected: str, tmp_path: Path) -> None:
    write_certificate(tmp_path)
    (tmp_path / "key.pem").chmod(mode)
    assert problems(tmp_path, MINIMAL + TLS) == [
        f"mailserver.toml: tls.private_key: key.pem is a private key that {expected}; "
        "chmod 640 key.pem, or 600 where no group needs it"
    ]


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640, 0o440])
def test_a_private_key_that_its_owner_and_perhaps_a_group_can_read_is_good(mode: int, tmp_path: Path) -> None:
    write_certificate(tmp_path)
    (tmp_path / "key.pem").chmod(mode)
    loaded = load(write_configuration(tmp_path, MINIMAL + TLS))
    assert loaded.tls is not None
    assert loaded.tls.private_key == tmp_path / "key.pem"


def test_authorities_of_clients(tmp_path: Path) -> None:
    write_certificate(tmp_path)
    main = MINIMAL + TLS + 'client_ca = "clients.pem"\n'
    assert problems(tmp_path, main) == [
        "mailserver.toml: tls.client_ca: clients.pem does not exist; name a readable file"
    ]
    (tmp_path / "clients.pem").write_text("none")
    assert problems(tmp_path, main) == [
        "mailserver.toml: tls.client_ca: clients.pem has no PEM certificate; "
        "name the file with the authorities' certificates"
    ]
    (tmp_path / "clients.pem").write_bytes((tmp_path / "cert.pem").read_bytes())
    (problem,) = problems(tmp_path, main)
    assert problem.startswith("mailserver.toml: tls.client_ca: clients.pem: ")
    assert problem.endswith("is no authority; name the certificate of who issued it")


def test_a_key_of_another_certificate(tmp_path: Path) -> None:
    (tmp_path / "sni").mkdir()
    write_certificate(tmp_path)
    write_certificate(tmp_path / "sni")
    sni = '[[tls.sni]]\nnames = ["b.example"]\ncertificate = "sni/cert.pem"\nprivate_key = "key.pem"\n'
    assert problems(tmp_path, MINIMAL + TLS + sni) == [
        "mailserver.toml: tls.sni[1].private_key: key.pem does not belong to the first certificate of sni/cert.pem; "
        "name its own key"
    ]


@pytest.mark.parametrize(
    ("relay", "complaint"),
    [
        (
            'smarthost = "smtp.example.net"',
            'smarthost: "smtp.example.net" must be HOST:PORT, as "smtp.example.net:587" or "[2001:db8::1]:25"',
        ),
        (
            'smarthost = "a.example:25"\nsmarthost_user = "u"',
            "smarthost_password_file: smarthost_user is given without smarthost_password_file; give both or neither",
        ),
        (
            'smarthost = "a.example:25"\nsmarthost_password_file = "accounts.toml"',
            "smarthost_password_file: smarthost_password_file is given without smarthost_user; give both or neither",
        ),
        (
            'smarthost_user = "u"\nsmarthost_password_file = "accounts.toml"',
            'smarthost_user: "u" is given without smarthost; give relay.smarthost as well, or leave it out',
        ),
        (
            'smarthost = "a.example:25"\nsmarthost_user = "u"\nsmarthost_password_file = "nowhere"',
            "smarthost_password_file: nowhere does not exist; name a readable file",
        ),
        (
            'lifetime = "1 h"\ndelay_warning = "2 h"',
            "delay_warning: is longer than relay.lifetime, so nobody would be warned; make it less than 1 h",
        ),
        ('retry_first = "5 h"', "retry_max: is shorter than relay.retry_first; make it at least 5 h"),
    ],
)
def test_relay_settings_that_do_not_fit(tmp_path: Path, relay: str, complaint: str) -> None:
    assert complaint in [
        p.removeprefix("mailserver.toml: relay.") for p in problems(tmp_path, f"{MINIMAL}[relay]\n{relay}\n")
    ]


def test_the_data_directory_must_not_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    assert problems(tmp_path) == [
        "mailserver.toml: data: data is not a directory; name one, or a place where one can be made"
    ]


def test_a_syntax_error_has_the_file_and_the_line(tmp_path: Path) -> None:
    unquoted = "not a value; text, sizes and durations stand in double quotes"
    assert problems(tmp_path, "\nhostname = mail\n") == [f"mailserver.toml: line 2: {unquoted}"]
    assert problems(tmp_path, accounts="[account.bob@a.test]\n") == [
        'accounts.toml: line 1: the name stands in quotes; write [account."bob@a.test"]'
    ]


def test_a_lifetime_shorter_than_the_usual_warning_is_good(tmp_path: Path) -> None:
    assert load(write_configuration(tmp_path, MINIMAL + '[relay]\nlifetime = "1 h"\n')).relay.lifetime == 3600


@pytest.mark.parametrize("data", [".", "deeper/than/this"])
def test_data_that_cannot_be_written_here(tmp_path: Path, data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailserver.config.loader.os.access", lambda path, mode: path != tmp_path)
    (problem,) = problems(tmp_path, MINIMAL.replace('"data"', f'"{data}"'))
    missing = "" if data == "." else f"{data} does not exist, and "
    remedy = "make it, and give it to the server's user" if missing else "give it to the server's user, or run this"
    assert problem.startswith(
        f"mailserver.toml: data: {missing}{tmp_path} cannot be written by the one who runs this (user {os.getuid()}); "
        f"{remedy}"
    )


def test_data_below_what_is_no_directory(tmp_path: Path) -> None:
    assert problems(tmp_path, MINIMAL.replace('"data"', '"mailserver.toml/data"')) == [
        "mailserver.toml: data: mailserver.toml is not a directory; name one, or a place where one can be made"
    ]


def test_an_expired_certificate_is_a_fault_when_a_time_is_given(tmp_path: Path) -> None:
    write_certificate(tmp_path, expires=datetime(2020, 1, 1, tzinfo=UTC))
    assert load(write_configuration(tmp_path, MINIMAL + TLS)).tls
    assert load(tmp_path / "mailserver.toml", valid_at=datetime(2019, 12, 31, tzinfo=UTC)).tls
    assert problems(tmp_path, MINIMAL + TLS, valid_at=datetime(2020, 1, 2, tzinfo=UTC)) == [
        "mailserver.toml: tls.certificate: cert.pem expired on 2020-01-01; renew it"
    ]


@pytest.mark.parametrize(
    ("names", "own"),
    [
        (["mail.example.org"], True),
        (["other.example.org", "MAIL.example.org"], True),
        (["*.example.org"], True),
        (["example.org", "*.mail.example.org"], False),
        (["192.0.2.1"], False),
    ],
)
def test_a_certificate_that_does_not_name_the_server_is_worth_a_warning(
    tmp_path: Path, names: list[str], own: bool
) -> None:
    write_certificate(tmp_path, *names)
    configuration = load(write_configuration(tmp_path, MINIMAL + TLS))
    warnings = list(advice(configuration, load_accounts(configuration.accounts), datetime.now(UTC)))
    text = 'the certificate does not name "mail.example.org", so clients will not trust it'
    assert warnings == ([] if own else [f"{tmp_path}/cert.pem: {text}"])


def test_names_of_further_certificates_are_looked_at_as_well(tmp_path: Path) -> None:
    write_certificate(tmp_path, "mail.example.org", "*.example.net")
    files = 'certificate = "cert.pem"\nprivate_key = "key.pem"\n'
    sni = f'[[tls.sni]]\nnames = ["*.example.net", "A.example.net", "b.example"]\n{files}'
    configuration = load(write_configuration(tmp_path, MINIMAL + TLS + sni))
    assert configuration.tls and configuration.tls.sni[0].names == ("*.example.net", "a.example.net", "b.example")
    (warning,) = advice(configuration, load_accounts(configuration.accounts), datetime.now(UTC))
    assert '"b.example"' in warning


@pytest.mark.parametrize("name", ["*", "*.", "a.*.example", "*a.example", "*.*.example"])
def test_what_is_no_server_name(tmp_path: Path, name: str) -> None:
    write_certificate(tmp_path)
    sni = f'[[tls.sni]]\nnames = ["{name}"]\ncertificate = "cert.pem"\nprivate_key = "key.pem"\n'
    (problem,) = problems(tmp_path, MINIMAL + TLS + sni)
    assert problem.startswith(f'mailserver.toml: tls.sni[1].names[1]: "{name}" is not a host name')


@pytest.mark.parametrize(
    ("accounts", "lacks"),
    [("", ["no domain", "no account"]), ('[domain."b.example"]\n', ["no account"]), (ACCOUNTS, [])],
)
def test_a_file_without_domains_or_accounts_is_worth_a_warning(tmp_path: Path, accounts: str, lacks: list[str]) -> None:
    configuration = load(write_configuration(tmp_path, accounts=accounts))
    warnings = list(advice(configuration, load_accounts(configuration.accounts), datetime.now(UTC)))
    assert [lack in warning for lack, warning in zip(lacks, warnings, strict=True)] == [True] * len(lacks)


@pytest.mark.parametrize(
    ("accounts", "warned"),
    [
        ("", True),
        (ACCOUNTS.replace("password =", 'disabled = "keep"\npassword ='), True),
        (ACCOUNTS, False),
        ('[domain."b.example"]\n[alias."Postmaster@b.example"]\nmembers = ["a@elsewhere.example"]\n', False),
    ],
)
def test_a_database_alone_leaves_the_server_without_a_postmaster(tmp_path: Path, accounts: str, warned: bool) -> None:
    (tmp_path / "users.db").touch()
    source = 'kind = "sql"\nfile = "users.db"\ndomains = ["a.example"]\naccount_query = "SELECT :address AS password"\n'
    configuration = load(write_configuration(tmp_path, f"{MINIMAL}[[directory]]\n{source}", accounts))
    warnings = list(advice(configuration, load_accounts(configuration.accounts), datetime.now(UTC)))
    assert [warning for warning in warnings if "postmaster is refused" in warning] == warnings
    assert bool(warnings) == warned


def test_a_single_listener_needs_double_brackets(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, MINIMAL.replace("[[listener]]", "[listener]"))
    assert problem == "mailserver.toml: listener: is a single section; write its header as [[listener]]"


def test_a_wrong_value_is_shown_shortened(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, MINIMAL.replace("tcp:25", "tcp:25:" + "x" * 500))
    assert problem.startswith('mailserver.toml: listener[1].endpoint: "tcp:25:' + "x" * 49 + "... has ")


def test_what_may_be_a_password_is_not_shown(tmp_path: Path) -> None:
    accounts = '[domain."b.example"]\n[account]\n"a@b.example" = "geheim"\n[account."b@b.example"]\npassword = 4711\n'
    main = MINIMAL + '[relay]\nsmarthost = "a.example:25"\nsmarthost_password_file = "geheim\\u0000"\n'
    found = problems(tmp_path, main, accounts)
    assert len(found) == 3
    assert not any("geheim" in problem or "4711" in problem for problem in found)


def test_files_that_are_missing_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"mailserver.toml: does not exist; .* or name another with --config$"):
        load(tmp_path / "mailserver.toml")
    assert problems(tmp_path, accounts=None) == ["accounts.toml: does not exist; `mailserver domain add NAME` makes it"]
    (tmp_path / "accounts.toml").write_bytes(b"# a\n# \xff\n")
    assert problems(tmp_path, accounts=None) == ["accounts.toml: line 2: is not UTF-8 text; save the file as UTF-8"]
    (tmp_path / "accounts.toml").unlink()
    (tmp_path / "accounts.toml").mkdir()
    assert problems(tmp_path, accounts=None) == ["accounts.toml: cannot be read: Is a directory"]


def test_the_outbox_of_a_demo_is_an_account(tmp_path: Path) -> None:
    assert problems(tmp_path, MINIMAL + '[demo]\noutbox = "outbox@example.org"\n') == [
        "mailserver.toml: demo.outbox: 'outbox@example.org' is not an account of accounts.toml; add it there"
    ]


def test_commands_read_the_file_alone(tmp_path: Path) -> None:
    path = write_configuration(tmp_path, MINIMAL + TLS, accounts=None)
    assert read(path).data == tmp_path / "data"
    path.write_text("hostname = 1\n")
    with pytest.raises(ConfigurationError, match="hostname: 1 is not text"):
        read(path)


# accounts.toml


def accounts_problems(text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        parse_accounts(text, Path("accounts.toml"))
    return [line.removeprefix("accounts.toml: ") for line in caught.value.problems]


def account(name: str, *aliases: str) -> str:
    return f'[account."{name}"]\npassword = "{SECRET_HASH}"\naliases = {list(aliases)}\n'


def test_good_accounts(tmp_path: Path) -> None:
    write_configuration(tmp_path)
    accounts = load_accounts(tmp_path / "accounts.toml")
    assert list(accounts.domain) == ["example.org", "example.net"]
    assert accounts.account["alice@example.org"].quota == 5 * 2**30
    assert parse_accounts("", Path("x")).account == {}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            account("alice"),
            'account.alice: is not a mail address: the address has no domain; write it as "name@example.org"',
        ),
        (
            account("alice@other.example"),
            'account."alice@other.example": the domain other.example is not declared; '
            'add a section [domain."other.example"]',
        ),
        (
            account("a@example.org", "A@Example.org"),
            'account."a@example.org".aliases[1]: A@example.org is taken by account."a@example.org"; '
            "an address leads to one account",
        ),
        (
            account("a@example.org", "x@example.org") + account("b@example.org", "X@example.org"),
            'account."b@example.org".aliases[1]: X@example.org is taken by account."a@example.org".aliases[1]; '
            "an address leads to one account",
        ),
        (
            account("a@example.org") + account("A@example.org"),
            'account."A@example.org": A@example.org is taken by account."a@example.org"; '
            "an address leads to one account",
        ),
        (
            account("a@example.org", "b@other.example"),
            'account."a@example.org".aliases[1]: the domain other.example is not declared; '
            'add a section [domain."other.example"]',
        ),
        (
            account("é@example.org"),
            'account."é@example.org": has letters beyond ASCII before the @; '
            "this version does not serve such addresses",
        ),
        (
            account("a@[127.0.0.1]"),
            'account."a@[127.0.0.1]": has a domain that is an address literal; write a domain name, as "example.org"',
        ),
        (
            "[account.'\"\"@example.org']\n" + account("x@example.org").partition("\n")[2],
            'account."\\"\\"@example.org": has nothing before the @; write it as "name@example.org"',
        ),
        ('[domain."EXAMPLE.org"]', 'domain."EXAMPLE.org": is given twice, case does not count; keep one'),
        ('[domain."a b"]', 'domain."a b": is not a domain name; write it as "example.org"'),
        (
            '[domain."b.example"]\ncatch_all = "nobody@example.org"',
            'domain."b.example".catch_all: there is no account "nobody@example.org"; '
            "name an account, or the header of an [alias] section",
        ),
        (
            '[alias."team@example.org"]\nmembers = ["nobody@example.org", "x@elsewhere.example"]',
            'alias."team@example.org".members[1]: there is no "nobody@example.org" here; '
            "add that account or alias first",
        ),
        (
            '[alias."team@example.org"]\nmembers = ["a b"]',
            'alias."team@example.org".members[1]: "a b" is not a mail address: the local part is malformed; '
            'write it as "name@example.org"',
        ),
        (
            '[alias."team@example.org"]\nmembers = []',
            'alias."team@example.org".members: is empty; at least one is needed',
        ),
        (
            '[alias."a@example.org"]\nmembers = ["B@example.org"]\n'
            '[alias."b@example.org"]\nmembers = ["a@example.org"]',
            'alias."b@example.org".members: leads back to itself; take that member out',
        ),
        (
            account("x@example.org") + 'forward = ["y@elsewhere.example", "X@example.org"]',
            'account."x@example.org".forward[2]: is the account itself; keep_copy = true keeps its mail here',
        ),
        (
            account("x@example.org") + '[alias."X@example.org"]\nmembers = ["y@elsewhere.example"]',
            'alias."X@example.org": X@example.org is taken by account."x@example.org"; an address leads to one account',
        ),
        (
            '[domain."b.example"]\ncatch_all = "nobody"',
            'domain."b.example".catch_all: "nobody" is not a mail address: the address has no domain; '
            'write it as "name@example.org"',
        ),
        ("[domain.b.example]", 'domain.b.example: a name with dots stands in quotes; write [domain."b.example"]'),
        (
            '[domain.a.b.example]\ncatch_all = "x@example.org"',
            'domain.a.b: a name with dots stands in quotes; write [domain."a.b.example"]',
        ),
        ('[domain."b.example".x]', 'domain."b.example".x: unknown key; known here: catch_all'),
        ("[accounts]", "accounts: unknown key; did you mean account?"),
        ("domain = 1", "domain: is not a section; write it as a header in brackets with keys below"),
        ("[account]\nx = 1", "account.x: is not a section; write it as a header in brackets with keys below"),
    ],
)
def test_accounts_that_do_not_fit_together(text: str, complaint: str) -> None:
    declared = "" if text.startswith("domain =") else '[domain."example.org"]\n'
    assert complaint in accounts_problems(declared + text)


@pytest.mark.parametrize(
    "stored",
    ["", "secret", "$argon2id$", "$argon2i$" + SECRET_HASH[10:], SECRET_HASH[:-50], "$2b$12$" + "a" * 53],
)
def test_a_password_that_is_no_argon2id_hash_is_refused_and_not_repeated(stored: str) -> None:
    text = f'[domain."example.org"]\n[account."a@example.org"]\npassword = "{stored}"\n'
    assert accounts_problems(text) == [
        'account."a@example.org".password: is not an argon2id hash; let `mailserver account passwd ADDRESS` write it'
    ]


VALUES = st.recursive(
    st.one_of(st.integers(-1, 3), st.booleans(), st.sampled_from(["a@b.example", "5 GiB", "b.example", ""])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2),
        st.dictionaries(
            st.sampled_from(["domain", "account", "password", "aliases", "a@b.example"]), inner, max_size=3
        ),
    ),
    max_leaves=8,
)


@given(VALUES, VALUES, VALUES)
def test_any_data_are_read_or_refused_in_words(domain: object, account: object, tls: object) -> None:
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "accounts.toml").write_text(tomlkit.dumps({"domain": domain, "account": account}))
        main = {"hostname": domain, "listener": account, "tls": tls, "relay": account, "auth": domain, "demo": tls}
        (Path(directory) / "mailserver.toml").write_text(tomlkit.dumps(main))
        with pytest.raises(ConfigurationError) as caught:
            load(Path(directory) / "mailserver.toml")
    assert all(": " in problem and "\n" not in problem for problem in caught.value.problems)
