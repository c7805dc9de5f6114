"""Routes and what differs for domains: their faults in words, and the form that they are kept in."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailserver.config.loader import load
from tests.config.test_loader import MINIMAL, problems, write_configuration

ROUTE = '[[route]]\nto = ["example.net"]\nvia = "smarthost"\nhost = "a.example:25"\n'


@pytest.mark.parametrize(
    ("section", "complaints"),
    [
        ('[[route]]\nto = ["a.b"]\n', ["route[1].via: is missing; add it: to the servers that the DNS names, "]),
        ('[[route]]\nto = []\nvia = "mx"', ["route[1].to: is empty; at least one is needed"]),
        ('[[route]]\nfrom = "a"\nvia = "mx"', ['route[1].from: "a" is not a list; write it in brackets']),
        ('[[route]]\nsender = "a"\nvia = "mx"', ["route[1].sender: unknown key"]),
        (
            '[[route]]\nvia = "mx"\nto = ["*", "*.a.b", "@a.b", "a b", "x@", ".[192.0.2.1]", "."]\n'
            'from = ["<>", "<x>"]',
            [
                'route[1].to[1]: "*" is no pattern; leave "to" or "from" out where any address fits',
                'route[1].to[2]: "*.a.b" has a "*"; write ".a.b" for all domains below "a.b"',
                'route[1].to[3]: "@a.b" has nothing before the @; write a domain without it, as "a.b"',
                'route[1].to[4]: "a b" is not a domain; write it as "example.net", or ".example.net" for all below it',
                'route[1].to[5]: "x@" is not an address: the domain is malformed; write it as "bob@example.net"',
                'route[1].to[6]: ".[192.0.2.1]" is not a domain; ',
                'route[1].to[7]: "." is not a domain; ',
                'route[1].from[2]: "<x>" is not a domain; ',
            ],
        ),
        ('[[route]]\nvia = "smtp"', ["route[1].via: \"smtp\" is none of the known words; write 'mx', 'smarthost', "]),
        ('[[route]]\nvia = "smtp"\nhost = "x"\ntls = "verified"', ['route[1].via: "smtp" is none of the known words']),
        (
            '[[route]]\nvia = "smarthost"',
            ['route[1].host: is missing; with via = "smarthost" write where that server is, as "smtp.example.net:587"'],
        ),
        (
            '[[route]]\nvia = "error"',
            ['route[1].text: is missing; with via = "error" write what the sender is told, as "5.1.1 '],
        ),
        ('[[route]]\nvia = "smarthost"\nhost = "a.b"', ['route[1].host: "a.b" must be HOST:PORT, as ']),
        (
            '[[route]]\nvia = "lmtp"\nhost = "unix:a"',
            ['route[1].host: "unix:a" needs an absolute path, as "unix:/run/dovecot/lmtp"'],
        ),
        ('[[route]]\nvia = "lmtp"\nhost = "/run/a"', ['route[1].host: "/run/a" must be HOST:PORT, as ']),
        (
            '[[route]]\nvia = "mx"\nhost = "a.b:25"\ntls = "required"\nuser = "u"\npassword_file = "p"\ntext = "x"',
            [
                'route[1].host: "a.b:25" says nothing with via = "mx", only with "smarthost" or "lmtp"; leave it out',
                'route[1].tls: "required" says nothing with via = "mx", only with "smarthost"; leave it out',
                'route[1].user: "u" says nothing with via = "mx", only with "smarthost"; leave it out',
                'route[1].password_file: says nothing with via = "mx", only with "smarthost"; leave it out',
                'route[1].text: "x" says nothing with via = "mx", only with "error"; leave it out',
            ],
        ),
        (
            ROUTE + 'tls = "opportunistic"\nuser = "u"\npassword_file = "accounts.toml"',
            [
                'route[1].user: "u" is given with tls = "opportunistic", and no password is sent in clear; '
                'write "verified"'
            ],
        ),
        (
            ROUTE + 'user = "u"',
            ["route[1].password_file: user is given without password_file; give both or neither"],
        ),
        (
            ROUTE + 'password_file = "p"',
            ["route[1].password_file: password_file is given without user; give both or neither"],
        ),
        (
            ROUTE + 'user = "u"\npassword_file = "nowhere"',
            ["route[1].password_file: "],
        ),
        (
            '[[route]]\nvia = "error"\ntext = "550 5.1.1 No"',
            ['route[1].text: "550 5.1.1 No" begins with a reply code; only an enhanced one may stand there'],
        ),
        (
            '[[route]]\nvia = "error"\ntext = "2.1.1 Yes"',
            ['route[1].text: "2.1.1 Yes" begins with 2.1.1; the code of an error begins with 5, or with 4 while'],
        ),
        ('[[route]]\nvia = "error"\ntext = "5.1.1"', ['route[1].text: "5.1.1" says nothing; write what the sender']),
        (
            '[[route]]\nvia = "error"\ntext = "Größe"',
            ['route[1].text: "Größe" has characters that no reply can carry; write one line of printable ASCII'],
        ),
        (
            '[[route]]\nvia = "mx"\n' + ROUTE + '[relay]\nsmarthost = "a.b:25"',
            [
                "route[2]: is never reached, since route[1] fits all mail; write it above",
                "relay.smarthost: is never used, since route[1] fits all mail; keep one",
            ],
        ),
        ("[route]\nvia = 'mx'", ["route: is a single section; write its header as [[route]]"]),
        ('[relay.domain."a b"]', ['relay.domain."a b": "a b" is not a domain; write it as "example.net", or ']),
        (
            "[relay.domain.a.b]\nrate = 1",
            ['relay.domain.a.b: a name with dots stands in quotes; write [relay.domain."a.b"]'],
        ),
        (
            '[relay.domain."müller.b"]\n[relay.domain."XN--MLLER-kva.b"]',
            ['relay.domain: has "müller.b" and "XN--MLLER-kva.b", which are the same domain; keep one'],
        ),
        (
            '[relay.domain."a.b"]\nrate = -1\nconcurrency = 0\nlifetime = 5\ncolour = 1',
            [
                'relay.domain."a.b".lifetime: 5 is not a duration; ',
                'relay.domain."a.b".concurrency: 0 is too small; it must be at least 1',
                'relay.domain."a.b".rate: -1 is too small; it must be at least 0',
                'relay.domain."a.b".colour: unknown key; known here: retry_first, ',
            ],
        ),
        (
            '[relay.domain."a.b"]\nretry_max = "1 min"\ndelay_warning = "9 days"',
            [
                'relay.domain."a.b".retry_max: is shorter than relay.retry_first; make it at least 5 min',
                'relay.domain."a.b".delay_warning: is longer than relay.lifetime, so nobody would be warned; '
                "make it less than 5 days",
            ],
        ),
        (
            '[relay.domain."a.b"]\nretry_first = "1 day"\nlifetime = "1 h"\ndelay_warning = "2 h"',
            [
                'relay.domain."a.b".retry_max: is shorter than relay.domain."a.b".retry_first; make it at least 1 day',
                'relay.domain."a.b".delay_warning: is longer than relay.domain."a.b".lifetime, so nobody would be ',
            ],
        ),
        (
            '[relay]\ndouble_bounces_to = "root"\nrate_per_host = "1"',
            [
                'relay.rate_per_host: "1" is not a whole number; ',
                'relay.double_bounces_to: "root" is not an address: the address has no domain; '
                'write it as "postmaster@example.org"',
            ],
        ),
    ],
)
def test_routes_and_domains_that_do_not_fit(tmp_path: Path, section: str, complaints: list[str]) -> None:
    found = [problem.removeprefix("mailserver.toml: ") for problem in problems(tmp_path, f"{MINIMAL}{section}\n")]
    assert [problem[: len(expected)] for problem, expected in zip(found, complaints, strict=True)] == complaints


def test_routes_and_domains_are_kept_in_their_normal_form(tmp_path: Path) -> None:
    route = '[[route]]\nto = ["Bücher.example", ".Example.NET"]\nfrom = ["Alice@Example.org", "<>"]\nvia = "hold"\n'
    domain = '[relay.domain.".Bücher.example"]\nrate = 0\nlifetime = "1 h"\n'
    configuration = load(write_configuration(tmp_path, MINIMAL + route + domain))
    assert configuration.route[0].to == ("xn--bcher-kva.example", ".example.net")
    assert configuration.route[0].sender == ("alice@example.org", "<>")
    assert list(configuration.relay.domain) == [".xn--bcher-kva.example"]
