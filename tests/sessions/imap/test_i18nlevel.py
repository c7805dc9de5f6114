"""I18NLEVEL=2 (RFC 5255): SEARCH, SORT and THREAD compare by i;unicode-casemap (RFC 5051)."""

from pathlib import Path

import pytest

from tests.support.imap import Client, Server

SUBJECTS = (
    "Éclair",
    "eclair",
    "ﬁsh",
    "FISH",
    "straße",
    "ΣΊΣΥΦΟΣ",
    "Σίσυφος",
    "한글",
    "Ⅷ",
    "ｗｉｄｅ",
    "ǅ",
    "e\u0301clair",
)


@pytest.fixture
def client(tmp_path: Path) -> Client:
    server = Server(tmp_path)
    for subject in SUBJECTS:
        server.deliver(f"Subject: {subject}\r\nX-Über: y\r\n\r\n{subject} in the body\r\n".encode())
    return server.login(select="INBOX")


def found(client: Client, key: str) -> list[str]:
    (line,) = client.lines(key.encode())
    return [SUBJECTS[int(number) - 1] for number in line.split()[1:]]


def test_it_is_offered_after_login(client: Client, tmp_path: Path) -> None:
    assert b" I18NLEVEL=2 " in client.lines("CAPABILITY")[0]
    assert b"I18NLEVEL" not in Server(tmp_path).connect().greeting


@pytest.mark.parametrize("key", ["SUBJECT", "HEADER Subject", "TEXT", "BODY"])
@pytest.mark.parametrize(
    ("text", "subjects"),
    [
        ("ÉCLAIR", ["Éclair", "e\u0301clair"]),  # canonically the same
        ("CLAIR", ["Éclair", "eclair", "e\u0301clair"]),
        ("fish", ["FISH"]),  # the ligature has no title case, and becomes small letters
        ("ﬁSH", ["ﬁsh"]),
        ("σίσυφος", ["Σίσυφος", "ΣΊΣΥΦΟΣ"]),  # also the final sigma
        ("STRASSE", []),
        ("STRAßE", ["straße"]),
        ("한글", ["한글"]),
        ("하", []),  # no part of a syllable
        ("viii", ["Ⅷ"]),
        ("VIII", ["Ⅷ"]),
        ("ＷＩＤＥ", ["ｗｉｄｅ"]),
        ("wide", ["ｗｉｄｅ"]),
        ("ǆ", ["ǅ"]),
        ("Ǆ", ["ǅ"]),
    ],
)
def test_search(client: Client, key: str, text: str, subjects: list[str]) -> None:
    """§4.2, §4.6: MIME is undone, then the comparator's substring operation."""
    assert set(found(client, f'SEARCH {key} "{text}"')) == set(subjects)


def test_names_of_fields_are_compared_so_in_text(client: Client) -> None:
    assert len(found(client, 'SEARCH TEXT "subject: fish"')) == 1
    assert len(found(client, 'SEARCH TEXT "SUBJECT: "')) == len(SUBJECTS)


def test_sort_and_search_agree(client: Client) -> None:
    """What is equal stays in the order of the mailbox; the rest goes by code points of what it becomes."""
    order = found(client, "SORT (SUBJECT) UTF-8 ALL")
    assert order == [
        "ǅ", "eclair", "Éclair", "e\u0301clair", "FISH", "straße", "Ⅷ", "ｗｉｄｅ", "ﬁsh", "ΣΊΣΥΦΟΣ", "Σίσυφος", "한글",
    ]  # fmt: skip


def test_thread_by_subject(tmp_path: Path) -> None:
    server = Server(tmp_path)
    for subject in ("Éclair", "Re: e\u0301CLAIR", "eclair"):
        server.deliver(f"Subject: {subject}\r\n\r\nx\r\n".encode())
    client = server.login(select="INBOX")
    assert client.lines("THREAD ORDEREDSUBJECT UTF-8 ALL") == [b"THREAD (1 2)(3)"]
    assert client.lines("THREAD REFERENCES UTF-8 ALL") == [b"THREAD (1 2)(3)"]


@pytest.mark.parametrize(
    "wanted",
    [
        "", " i;unicode-casemap", ' "i;*"', ' "*"', " default", " DEFAULT", " +i;unicode-casemap",
        ' "cz;*" i;basic default',
        ' "i;uni*map"', " {17+}\r\ni;unicode-casemap", " I;Unicode-Casemap",
    ],
)  # fmt: skip
def test_comparator(client: Client, wanted: str) -> None:
    """§4.7, §4.8."""
    for _ in ("selected", "authenticated"):
        assert client.lines("COMPARATOR" + wanted) == [b"COMPARATOR i;unicode-casemap"]
        client.command("UNSELECT")


@pytest.mark.parametrize("wanted", ["i;octet", '"cz;*" i;ascii-casemap', "-i;unicode-casemap", '"i;unicode-casemap*x"'])
def test_a_comparator_that_is_not_there(client: Client, wanted: str) -> None:
    """§4.9. The active one stays."""
    assert client.command(f"COMPARATOR {wanted}").startswith(b"t NO [BADCOMPARATOR]")
    assert client.lines("COMPARATOR") == [b"COMPARATOR i;unicode-casemap"]


@pytest.mark.parametrize(
    "wanted",
    ["COMPARATOR ", "COMPARATOR  x", 'COMPARATOR ""', "COMPARATOR (x)", 'COMPARATOR "a b"', 'COMPARATOR "%"',
     "COMPARATOR *", "COMPARATOR " + "x" * 257, 'COMPARATOR "ü"', "COMPARATOR" + " x" * 2000],
)  # fmt: skip
def test_what_is_no_comparator(client: Client, wanted: str) -> None:
    assert client.command(wanted).startswith(b"t BAD")


def test_many_wildcards_cost_little(client: Client) -> None:
    wanted = '"' + "*a" * 127 + '"'
    assert client.command("COMPARATOR" + f" {wanted}" * 200).startswith(b"t NO [BADCOMPARATOR]")
