"""The sections of further sources: what each kind must and may have."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailserver.config.loader import ConfigurationError, load
from tests.support.command import Command
from tests.support.configs import MINIMAL, write_configuration

PASSWD = '[[directory]]\nkind = "passwd"\nfile = "users"\n'


def problems(directory: Path, sections: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load(write_configuration(directory, MINIMAL + sections))
    return [line.replace(f"{directory}/", "") for line in caught.value.problems]


def test_a_source_of_each_kind(tmp_path: Path) -> None:
    (tmp_path / "users").touch()
    (passwd,) = load(write_configuration(tmp_path, MINIMAL + PASSWD)).directory
    assert (passwd.kind, passwd.file, passwd.default_scheme) == ("passwd", tmp_path / "users", None)


@pytest.mark.parametrize(
    ("sections", "complaint"),
    [
        ('[[directory]]\nkind = "nis"\n', 'directory[1].kind: "nis" is none of the known words; write'),
        ("[[directory]]\n", "directory[1].kind: is missing; add it: what is asked"),
        ('[[directory]]\nkind = "passwd"\n', 'directory[1].file: is missing; with kind = "passwd" write the file'),
        (PASSWD, "directory[1].file: users does not exist; name a readable file"),
        (PASSWD + 'default_scheme = "ROT13"\n', 'default_scheme: "ROT13" is not a scheme that this server checks'),
        (PASSWD + 'default_domain = "[::1]"\n', 'default_domain: "[::1]" is an address literal'),
        (PASSWD.replace("[[directory]]", "[directory]"), "is a single section; write its header as [[directory]]"),
    ],
)
def test_what_a_section_may_not_say(tmp_path: Path, sections: str, complaint: str) -> None:
    (problem,) = problems(tmp_path, sections)
    assert complaint in problem


def test_config_check_tells_the_faults_of_a_file_of_users(tmp_path: Path) -> None:
    command = Command(tmp_path)
    (tmp_path / "users").write_text("carol\ndave@users.example:{OTP}x\n")
    write_configuration(tmp_path, MINIMAL + PASSWD)
    result = command.run("config", "check")
    assert result.exit_code == 0
    warnings = result.stderr.splitlines()
    assert len(warnings) == 2 and all(line.startswith("mailserver: warning: ") for line in warnings)
    assert "users: line 1: the user has no domain" in warnings[0] and "the scheme OTP" in warnings[1]
