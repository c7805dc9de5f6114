"""Flags, letters and keywords."""

import pytest

from mailserver.store import InvalidFlag
from mailserver.store.flags import KEYWORDS_FILE, WITHOUT_LETTER, Flags


def test_system_flags_have_their_letters(tmp_path):
    flags = Flags(tmp_path)
    every = frozenset({"\\Seen", "\\Answered", "\\Flagged", "\\Deleted", "\\Draft"})
    assert flags.encode(flags.accept(every)) == "DFRST"
    assert flags.decode("DFRST") == every


def test_keywords_get_letters_that_other_programs_can_read(tmp_path):
    flags = Flags(tmp_path)
    accepted = flags.accept(frozenset({"$Forwarded", "\\Seen"}))
    assert flags.encode(accepted) == "Sa"
    assert (tmp_path / KEYWORDS_FILE).read_text() == "0 $Forwarded\n"
    assert Flags(tmp_path).encode(accepted) == "S"  # not read yet
    other = Flags(tmp_path)
    other.refresh()
    assert other.decode("Sa") == accepted


def test_keywords_do_not_depend_on_case(tmp_path):
    flags = Flags(tmp_path)
    flags.accept(frozenset({"$Junk"}))
    assert flags.accept(frozenset({"$JUNK", "\\SEEN"})) == frozenset({"$Junk", "\\Seen"})


def test_letters_that_mean_nothing_here_stay(tmp_path):
    flags = Flags(tmp_path)
    assert flags.encode(frozenset({"\\Seen"}), kept="PTz") == "PSz"


def test_the_twenty_seventh_keyword_is_kept_without_a_letter(tmp_path):
    flags = Flags(tmp_path)
    every = flags.accept(frozenset(f"key{number}" for number in range(30)))
    assert len(every) == 30
    assert len(flags.without_letter(every)) == 4
    assert len(flags.encode(every)) == 26
    assert flags.decode(flags.encode(every)) | flags.without_letter(every) == every


def test_a_letter_is_not_given_to_another_keyword_when_two_processes_add(tmp_path):
    one, other = Flags(tmp_path), Flags(tmp_path)
    one.accept(frozenset({"first"}))
    other.accept(frozenset({"second"}))
    one.refresh()
    assert (one.encode(frozenset({"first"})), one.encode(frozenset({"second"}))) == ("a", "b")


def test_keywords_do_not_become_more_without_end(tmp_path):
    flags = Flags(tmp_path)
    for number in range(26 + WITHOUT_LETTER):
        flags.accept(frozenset({f"key-{number}"}))
    with pytest.raises(InvalidFlag):
        flags.accept(frozenset({"one-more"}))
    assert flags.accept(frozenset({"KEY-0", "Key-200"})) == {"key-0", "key-200"}
    assert flags.accept(frozenset({"one-more"}), giving=False) == {"one-more"}


def test_removing_a_keyword_takes_no_letter(tmp_path):
    flags = Flags(tmp_path)
    assert flags.accept(frozenset({"never-set"}), giving=False) == {"never-set"}
    assert not (tmp_path / "dovecot-keywords").exists()


def test_malformed_lines_of_the_file_are_passed_over(tmp_path):
    (tmp_path / KEYWORDS_FILE).write_bytes(b"0 $Good\nx y\n99 no\n1 bad(one\n\xff\xfe\n3 Also\n")
    flags = Flags(tmp_path)
    flags.refresh()
    assert flags.decode("abd") == frozenset({"$Good", "Also"})


@pytest.mark.parametrize(
    "flag", ["", "a b", "a\nb", "a(", 'a"b', "a%", "a*", "a\\", "ä", "\\Unknown", "a{", "a]", "x" * 300]
)
def test_flags_that_cannot_be_kept_are_refused(tmp_path, flag):
    with pytest.raises(InvalidFlag):
        Flags(tmp_path).accept(frozenset({flag}))
    assert not (tmp_path / KEYWORDS_FILE).exists()


def test_recent_is_nobodys_to_set(tmp_path):
    assert Flags(tmp_path).accept(frozenset({"\\Recent", "\\Seen"})) == frozenset({"\\Seen"})
