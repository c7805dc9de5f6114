"""LIST-EXTENDED (RFC 5258), with SPECIAL-USE as a selection option (RFC 6154)."""

from pathlib import Path

import pytest

from mailserver.config.model import IMAP
from tests.support.imap import Client, Server


def furnished(path: Path, mailboxes: str, subscribed: str) -> Client:
    client = Server(path).login()
    for name in mailboxes.split():
        assert client.command(f"CREATE {name}").startswith(b"t OK")
    for name in subscribed.split():
        assert client.command(f"SUBSCRIBE {name}").startswith(b"t OK")
    return client


def listed(client: Client, command: str, *, children: bool = False) -> list[str]:
    """The answers as `attributes name items`; those of CHILDREN only where asked for."""
    found = []
    for line in client.lines(command):
        text = line.decode().removeprefix("LIST (").replace(') "/"', "", 1).replace('"', "")
        if not children:
            text = text.replace("\\HasNoChildren", "").replace("\\HasChildren", "")
        found.append(" ".join(text.split()))
    return found


@pytest.fixture
def fruit(tmp_path: Path) -> Client:
    """The hierarchy of RFC 5258 §5."""
    return furnished(
        tmp_path,
        "Fruit Fruit/Apple Fruit/Banana Tofu Vegetable Vegetable/Broccoli Vegetable/Corn",
        "INBOX Fruit/Banana Fruit/Peach Vegetable Vegetable/Broccoli",
    )


def test_it_is_offered(fruit: Client) -> None:
    assert b" LIST-EXTENDED" in fruit.command("CAPABILITY")


@pytest.mark.parametrize("options", ["SUBSCRIBED", "REMOTE SUBSCRIBED", "subscribed Remote Subscribed"])
def test_subscribed_names_exist_or_not(fruit: Client, options: str) -> None:
    assert listed(fruit, f'LIST ({options}) "" "*"') == [
        "\\Subscribed INBOX",
        "\\Subscribed Fruit/Banana",
        "\\NonExistent \\Subscribed Fruit/Peach",
        "\\Subscribed Vegetable",
        "\\Subscribed Vegetable/Broccoli",
    ]


def test_children_are_told_on_request(fruit: Client) -> None:
    assert listed(fruit, 'LIST () "" "%" RETURN (CHILDREN)', children=True) == [
        "\\HasNoChildren INBOX",
        "\\HasChildren Fruit",
        "\\HasNoChildren Tofu",
        "\\HasChildren Vegetable",
    ]


def test_subscriptions_of_all_that_exists(fruit: Client) -> None:
    assert listed(fruit, 'LIST (REMOTE) "" "*" RETURN (SUBSCRIBED)') == [
        "\\Subscribed INBOX",
        "Fruit",
        "Fruit/Apple",
        "\\Subscribed Fruit/Banana",
        "Tofu",
        "\\Subscribed Vegetable",
        "\\Subscribed Vegetable/Broccoli",
        "Vegetable/Corn",
    ]


def test_several_patterns_give_each_name_once(fruit: Client) -> None:
    assert listed(fruit, 'LIST "" ("inbox" "Tofu" "T*" "Fruit/%" "")') == [
        "INBOX",
        "Fruit/Apple",
        "Fruit/Banana",
        "Tofu",
    ]
    assert listed(fruit, 'LIST Fruit/ ("A*" "")') == ["Fruit/Apple"], "the empty pattern is passed over"


def test_the_empty_pattern_asks_for_nothing_here(fruit: Client) -> None:
    for command in ('LIST () "" ""', 'LIST "" ("")', 'LIST "" "" RETURN ()'):
        assert listed(fruit, command) == []


@pytest.mark.parametrize(
    ("subscribed", "expected"),
    [
        ("Foo/Baz", ["Foo (CHILDINFO (SUBSCRIBED))"]),
        ("Foo/Baz Foo", ["\\Subscribed Foo (CHILDINFO (SUBSCRIBED))"]),
        ("", []),
        ("Foo Moo", ["\\Subscribed Foo", "\\Subscribed Moo"]),
    ],
)
def test_childinfo_is_not_haschildren(tmp_path: Path, subscribed: str, expected: list[str]) -> None:
    client = furnished(tmp_path, "Foo Foo/Bar Foo/Baz Moo", subscribed)
    assert listed(client, 'LIST (SUBSCRIBED RECURSIVEMATCH) "" "%"') == expected
    assert "CHILDINFO" not in str(client.command('LIST (SUBSCRIBED) "" "%"'))


def test_childinfo_of_a_parent_that_is_none(tmp_path: Path) -> None:
    client = furnished(tmp_path, "Foo/Baz", "Foo/Baz")
    assert listed(client, 'LIST (SUBSCRIBED RECURSIVEMATCH) "" "%"', children=True) == [
        "\\NonExistent \\HasChildren Foo (CHILDINFO (SUBSCRIBED))"
    ]
    assert listed(client, 'LIST (SUBSCRIBED) "" "%"') == []


@pytest.fixture
def twos(tmp_path: Path) -> Client:
    """Example 9."""
    return furnished(
        tmp_path,
        "foo2 foo2/bar1 foo2/bar2 baz2 baz2/bar2 baz2/bar22 baz2/bar222 eps2 eps2/mamba qux2/bar2",
        "foo2/bar1 foo2/bar2 baz2/bar2 baz2/bar22 baz2/bar222 eps2 eps2/mamba qux2/bar2",
    )


def test_childinfo_counts_children_that_do_not_match(twos: Client) -> None:
    found = listed(twos, 'LIST (RECURSIVEMATCH SUBSCRIBED) "" "*2"')
    assert sorted(found) == sorted(
        [
            "foo2 (CHILDINFO (SUBSCRIBED))",
            "\\Subscribed foo2/bar2",
            "\\Subscribed baz2/bar2",
            "\\Subscribed baz2/bar22",
            "\\Subscribed baz2/bar222",
            "\\Subscribed eps2 (CHILDINFO (SUBSCRIBED))",
            "\\Subscribed qux2/bar2",
        ]
    ), "parents whose children are all shown are left out (§3.5)"


def test_childinfo_does_not_imply_children(tmp_path: Path) -> None:
    client = furnished(tmp_path, "foo", "foo/bar")
    assert listed(client, 'LIST "" ("foo" "foo/*")') == ["foo"]
    assert listed(client, 'LIST (SUBSCRIBED) "" "foo/*"') == ["\\NonExistent \\Subscribed foo/bar"]
    assert listed(client, 'LIST (SUBSCRIBED RECURSIVEMATCH) "" foo RETURN (CHILDREN)', children=True) == [
        "\\HasNoChildren foo (CHILDINFO (SUBSCRIBED))"
    ]


def test_missing_parents_are_shown_where_their_children_are_not(tmp_path: Path) -> None:
    client = furnished(tmp_path, "music/rock also/jazz", "")
    assert listed(client, 'LIST (REMOTE) "" %', children=True) == [
        "\\HasNoChildren INBOX",
        "\\NonExistent \\HasChildren also",
        "\\NonExistent \\HasChildren music",
    ]
    assert listed(client, 'LIST () "" *') == ["INBOX", "also/jazz", "music/rock"]
    assert "\\Noselect also" in listed(client, 'LIST "" *'), "the plain command is as before"


def test_special_use_and_other_options_together(tmp_path: Path) -> None:
    client = furnished(tmp_path, "Sent Trash a/x", "Sent a/x")
    client.command("CREATE a/Junkyard (USE (\\Junk))")
    assert listed(client, 'LIST (SPECIAL-USE SUBSCRIBED) "" *') == ["\\Sent \\Subscribed Sent"]
    assert listed(client, 'LIST (SPECIAL-USE RECURSIVEMATCH) "" %') == [
        "\\Sent Sent",
        "\\Trash Trash",
        "\\NonExistent a (CHILDINFO (SPECIAL-USE))",
    ]
    assert listed(client, 'LIST (SPECIAL-USE) "" % RETURN (SUBSCRIBED)') == [
        "\\Sent \\Subscribed Sent",
        "\\Trash Trash",
    ]


def test_the_separator_of_clients(tmp_path: Path) -> None:
    client = Server(tmp_path, policy=IMAP(separator=".")).login()
    client.command("SUBSCRIBE a.b")
    assert client.lines('LIST (SUBSCRIBED RECURSIVEMATCH) "" %') == [
        b'LIST (\\NonExistent \\HasNoChildren) "." "a" ("CHILDINFO" ("SUBSCRIBED"))'
    ]


@pytest.mark.parametrize("pattern", ["&*", "&AOQ", '"\x7f"', "a" * 1025, "{1+}\r\n\x01"])
def test_patterns_that_can_match_nothing_are_passed_over(fruit: Client, pattern: str) -> None:
    assert fruit.lines(f'LIST "" {pattern}') == []
    assert fruit.lines(f'LIST "" ({pattern} INBOX)') == fruit.lines('LIST "" (INBOX)') != []
    assert fruit.lines(f'LIST (SUBSCRIBED) "" ({pattern})') == []
