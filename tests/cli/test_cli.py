from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from click.testing import CliRunner

from mailserver.accounts import scram_keys, verify_password
from mailserver.cli import main
from mailserver.config.loader import load_accounts
from mailserver.config.reference import page
from tests.support.command import Command
from tests.support.configs import ACCOUNTS, MINIMAL, SECRET_HASH, write_configuration


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


# Configuration


def test_config_check_of_a_good_configuration(command: Command) -> None:
    assert command.good("config", "check") == f"{command.path}: the configuration is good\n"


def test_config_check_warns_of_what_is_no_fault(command: Command) -> None:
    write_configuration(command.directory, accounts="")
    result = command.run("config", "check")
    assert (result.exit_code, result.stdout) == (0, f"{command.path}: the configuration is good\n")
    lines = result.stderr.splitlines()
    assert len(lines) == 2 and all(line.startswith("mailserver: warning: ") for line in lines)
    assert "`mailserver domain add NAME`" in lines[0]


def test_config_check_warns_of_a_certificate_that_expires_soon(command: Command) -> None:
    now = datetime.now(UTC)
    ends = now + timedelta(days=5, hours=1)
    issued = trustme.CA().issue_cert("mail.example.org", not_before=now - timedelta(days=85), not_after=ends)
    (command.directory / "all.pem").touch(mode=0o600)
    issued.private_key_and_cert_chain_pem.write_to_path(str(command.directory / "all.pem"))
    write_configuration(command.directory, MINIMAL + '[tls]\ncertificate = "all.pem"\nprivate_key = "all.pem"\n')
    done = command.run("config", "check")
    assert "warning: " in done.stderr
    assert f"all.pem expires on {ends:%Y-%m-%d %H:%M} UTC, in 5 d 0 h; renew it" in done.stderr


def test_config_check_refuses_an_expired_certificate(command: Command) -> None:
    issued = trustme.CA().issue_cert("mail.example.org", not_after=datetime(2020, 1, 1, tzinfo=UTC))
    (command.directory / "all.pem").touch(mode=0o600)
    issued.private_key_and_cert_chain_pem.write_to_path(str(command.directory / "all.pem"))
    tls = '[tls]\ncertificate = "all.pem"\nprivate_key = "all.pem"\n'
    write_configuration(command.directory, MINIMAL + tls)
    assert "all.pem expired on 2020-01-01; renew it" in command.refused("config", "check")


def test_config_check_tells_every_problem_on_standard_error(command: Command) -> None:
    write_configuration(command.directory, MINIMAL + "a = 1\nb = 2\n", "x = 1\n")
    lines = command.refused("config", "check").splitlines()
    assert len(lines) == 3
    assert all(line.startswith(f"mailserver: {command.directory}/") for line in lines)


def test_config_reference_is_the_page_in_docs(command: Command) -> None:
    assert command.good("config", "reference") == page()


def test_the_configuration_comes_from_the_environment(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAILSERVER_CONFIG", str(command.path))
    result = CliRunner().invoke(main, ["domain", "list", "--json"])
    assert [entry["domain"] for entry in json.loads(result.stdout)] == ["example.org", "example.net"]


def test_a_configuration_that_is_missing_is_told_in_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["--config", str(tmp_path / "x.toml"), "account", "list"])
    remedy = "write it there as etc/mailserver.toml shows, or name another with --config"
    assert (result.exit_code, result.stderr) == (1, f"mailserver: {tmp_path}/x.toml: does not exist; {remedy}\n")


# Accounts, aliases, domains


def test_an_account_with_a_password_from_standard_input(command: Command) -> None:
    said = command.good("account", "add", "carol@example.org", "--password-stdin", stdin=" pass word \n")
    assert said == "carol@example.org is added; a running server takes it over within a second or two\n"
    assert verify_password(command.password_of("carol@example.org"), " pass word ")


def test_a_new_password_from_standard_input(command: Command) -> None:
    said = command.good("account", "passwd", "bob@example.org", "--password-stdin", stdin="pass word\n")
    assert said == "bob@example.org has a new password; a running server takes it over within a second or two\n"
    assert verify_password(command.password_of("bob@example.org"), "pass word")


def test_keys_for_scram_where_the_configuration_wants_them(command: Command) -> None:
    command.good("account", "passwd", "bob@example.org", "--password-stdin", stdin="new-secret\n")
    assert scram_keys(command.password_of("bob@example.org")) is None
    command.path.write_text(MINIMAL + "[auth]\nscram = true\n")
    command.good("account", "passwd", "bob@example.org", "--password-stdin", stdin="new-secret\n")
    assert scram_keys(command.password_of("bob@example.org")) is not None
    assert verify_password(command.password_of("bob@example.org"), "new-secret")


def test_an_account_whose_mailbox_is_there_already(command: Command) -> None:
    maildir = command.directory / "data" / "mail" / "example.org" / "carol"
    maildir.mkdir(parents=True)
    said = command.good("account", "add", "Carol@example.org", "--password-stdin", stdin="pass word\n")
    assert f"{maildir} was there already: the mail in it belongs to Carol@example.org now\n" in said


def test_a_mailbox_that_may_not_be_looked_at_does_not_matter(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bool:
        raise PermissionError

    monkeypatch.setattr("mailserver.cli.accounts.Path.exists", refuse)
    assert "is added" in command.good("account", "add", "carol@example.org", "--password-stdin", stdin="pass word\n")


def test_a_generated_password_is_printed_and_works(command: Command) -> None:
    result = command.run("account", "passwd", "bob@example.org", "--generate")
    assert result.exit_code == 0 and "has a new password" in result.stderr
    password = result.stdout
    assert re.fullmatch(r"[a-z0-9-]{23}\n", password)
    assert verify_password(command.password_of("bob@example.org"), password.strip())


def test_no_password_is_guessed_without_a_terminal(command: Command) -> None:
    assert "--password-stdin or --generate" in command.refused("account", "passwd", "bob@example.org")
    assert command.password_of("bob@example.org") == SECRET_HASH


@pytest.mark.parametrize("stdin", ["", "\n", "sieben7\n", "abcdefg\0hi\n", b"\xff\n"])
def test_passwords_that_cannot_be_set(command: Command, stdin: str | bytes) -> None:
    assert "password" in command.refused("account", "passwd", "bob@example.org", "--password-stdin", stdin=stdin)
    assert command.password_of("bob@example.org") == SECRET_HASH


def test_a_terminal_is_asked_twice(command: Command) -> None:
    status, shown = command.at_terminal([b"typed twice", b"typed twice"], "account", "passwd", "bob@example.org")
    done = b"bob@example.org has a new password; a running server takes it over within a second or two"
    assert (status, shown.split(b"\r\n")) == (0, [b"Password: ", b"Repeat for confirmation: ", done, b""])
    assert verify_password(command.password_of("bob@example.org"), "typed twice")


def test_the_list_of_accounts(command: Command) -> None:
    command.good("account", "forward", "bob@example.org", "bob@elsewhere.example", "--no-copy")
    command.good("account", "disable", "bob@example.org", "--keep-mail")
    assert json.loads(command.good("account", "list", "--json")) == [
        {
            "address": "alice@example.org",
            "aliases": ["info@example.org", "alice@example.net"],
            "forward": [],
            "keep_copy": True,
            "disabled": None,
            "quota": 5 * 2**30,
            "quota_messages": None,
        },
        {
            "address": "bob@example.org",
            "aliases": [],
            "forward": ["bob@elsewhere.example"],
            "keep_copy": False,
            "disabled": "keep",
            "quota": None,
            "quota_messages": None,
        },
    ]
    header, alice, bob = command.good("account", "list").splitlines()
    assert re.split("  +", header) == ["ACCOUNT", "STATE", "QUOTA", "ALIASES", "FORWARDED TO"]
    assert re.split("  +", alice) == [
        "alice@example.org",
        "in use",
        "5 GiB",
        "info@example.org, alice@example.net",
        "-",
    ]
    assert re.split("  +", bob) == ["bob@example.org", "disabled, mail kept", "-", "-", "bob@elsewhere.example"]
    assert "argon2" not in command.good("account", "list", "--json")


def test_a_removed_account_leaves_its_mail(command: Command) -> None:
    maildir = command.directory / "data" / "mail" / "example.org" / "alice"
    (maildir / "new").mkdir(parents=True)
    assert str(maildir) in command.good("account", "remove", "alice@example.org")
    assert (maildir / "new").is_dir()
    assert list(load_accounts(command.directory / "accounts.toml").account) == ["bob@example.org"]


def test_aliases(command: Command) -> None:
    command.good("alias", "add", "b@example.net", "bob@example.org")
    command.good("alias", "remove", "info@example.org")
    assert json.loads(command.good("alias", "list", "--json")) == [
        {"address": "alice@example.net", "members": ["alice@example.org"]},
        {"address": "b@example.net", "members": ["bob@example.org"]},
    ]
    assert command.good("alias", "list").splitlines()[1].split() == ["alice@example.net", "alice@example.org"]


def test_groups(command: Command) -> None:
    command.good("alias", "add", "team@example.org", "alice@example.org", "carol@elsewhere.example")
    command.good("alias", "add", "team@example.org", "bob@example.org")
    command.good("alias", "remove", "team@example.org", "alice@example.org")
    (team,) = [each for each in json.loads(command.good("alias", "list", "--json")) if "team" in each["address"]]
    assert team["members"] == ["carol@elsewhere.example", "bob@example.org"]
    assert "is no member" in command.refused("alias", "remove", "team@example.org", "alice@example.org")
    assert "has members" in command.refused("alias", "remove", "info@example.org", "alice@example.org")
    command.good("alias", "remove", "team@example.org")
    assert "team" not in command.good("alias", "list")


def test_forwarding_and_disabling_end_again(command: Command) -> None:
    command.good("account", "forward", "bob@example.org", "x@elsewhere.example")
    command.good("account", "disable", "bob@example.org")
    bob = load_accounts(command.directory / "accounts.toml").account["bob@example.org"]
    assert (bob.forward, bob.keep_copy, bob.disabled) == (("x@elsewhere.example",), True, "refuse")
    command.good("account", "forward", "bob@example.org")
    command.good("account", "enable", "bob@example.org")
    bob = load_accounts(command.directory / "accounts.toml").account["bob@example.org"]
    assert (bob.forward, bob.keep_copy, bob.disabled) == ((), True, None)
    assert "is not disabled" in command.refused("account", "enable", "bob@example.org")
    assert "is the account itself" in command.refused("account", "forward", "bob@example.org", "bob@example.org")


def test_domains_from_nothing_to_a_working_account(command: Command) -> None:
    (command.directory / "accounts.toml").unlink()
    assert "domain add" in command.refused("account", "list")
    command.good("domain", "add", "Example.com")
    command.good("account", "add", "me@example.com", "--password-stdin", stdin="pass word\n")
    assert command.good("domain", "list").splitlines()[1].split() == ["example.com", "-"]
    command.good("account", "remove", "me@example.com")
    assert "A running server keeps it" in command.good("domain", "remove", "example.com")
    assert command.good("domain", "list", "--json") == "[]\n"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("account add bob@example.org --generate", "bob@example.org is an account already"),
        ("account add x@other.example --generate", "there is no domain other.example; add it first"),
        ("account add bob", "'bob' is not a mail address: the address has no domain"),
        ("account passwd x@example.org --generate", "there is no account x@example.org"),
        ("account remove x@example.org", "there is no account x@example.org"),
        ("account remove bob@example.org", "bob@example.org is the catch_all of example.net; change that first"),
        ("alias add bob@example.org alice@example.org", "bob@example.org is an account already"),
        ("alias remove x@example.org", "there is no alias x@example.org"),
        ("domain add example.org", "the domain example.org is there already"),
        ("domain add example..org", "'example..org' is not a domain name"),
        ("domain remove example.org", "the domain example.org has addresses still"),
        ("queue show nothing", "no entry nothing in the queue"),
        ("queue flush nothing", "no entry nothing in the queue"),
        ("queue remove nothing", "no entry nothing in the queue"),
    ],
)
def test_errors_are_one_line_and_change_nothing(command: Command, arguments: str, complaint: str) -> None:
    error = command.refused(*arguments.split())
    assert complaint in error and "\n" not in error
    assert (command.directory / "accounts.toml").read_text() == ACCOUNTS


@pytest.mark.parametrize(
    "arguments",
    [
        "nothing",
        "account add",
        "account list --bogus",
        "queue hold",
        "queue hold x --all",
        "queue flush",
        "queue remove --sender example.org",
        "queue flush --domain not!a!domain",
        "queue hold --older-than 5",
        "queue hold --state sleeping",
        "queue hold --error=",
        "queue reroute nowhere x",
        "queue reroute smarthost:x --all",
        "account add a@b.c --generate --password-stdin",
    ],
)
def test_what_is_not_understood_ends_with_status_2(command: Command, arguments: str) -> None:
    result = command.run(*arguments.split())
    assert result.exit_code == 2
    assert "Traceback" not in result.stderr and "Error: " in result.stderr


def test_a_directory_that_cannot_be_written_is_told_in_one_line(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(command.directory))

    monkeypatch.setattr("mailserver.accounts.editor.replace_text", fail)
    monkeypatch.setattr("mailserver.cli.common.os.geteuid", lambda: 0)
    told = f"mailserver: {command.directory}: Permission denied"
    assert command.refused("domain", "add", "b.example") == told
    monkeypatch.setattr("mailserver.cli.common.os.geteuid", lambda: 1000)
    assert command.refused("domain", "add", "b.example") == f"{told}; run this as root, or as the server's user"


def test_the_command_as_a_process(command: Command) -> None:
    code = "from mailserver.cli import main; main()"
    environment = {**os.environ, "MAILSERVER_CONFIG": str(command.path), "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", code, "domain", "remove", "x"], env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "mailserver: there is no domain x\n")
