"""Names of message files."""

from hypothesis import given
from hypothesis import strategies as st

from mailserver.store import names


def test_names_are_unique_and_plain():
    made = {names.unique("mx.example.test") for _ in range(1000)}
    assert len(made) == 1000
    assert all(names.is_plain(name) for name in made)


def test_a_host_name_cannot_break_out_of_the_file_name():
    assert "/" not in names.unique("../../etc:2,S")
    assert ":" not in names.unique("a:b")
    assert "," not in names.unique("a,U=5")


def test_a_name_of_our_own_tells_everything():
    base = names.with_sizes("123.M000001P2Q3.host", 10, 12)
    name = names.parse(names.with_uid(base, 7, "FS"))
    assert name == names.FileName("123.M000001P2Q3.host,S=10,W=12", 7, 10, 12, "FS")


def test_sizes_are_replaced_not_added():
    assert names.with_sizes("1.x.h,S=1,W=2", 3, 4) == "1.x.h,S=3,W=4"


def test_names_of_other_programs_are_understood_as_far_as_they_go():
    assert names.parse("1204680122.27c448.fwqc,S=12").size == 12
    assert names.parse("1204680122.R1.host:2,RS").letters == "RS"
    assert names.parse("1204680122.R1.host:1,X").letters == ""
    assert names.parse("mbsync.1_1.host,U=44:2,S").uid == 44
    assert names.parse("offline,U=9,FMD5=7e33429f656f1e6e9d79b29c3f82c57e:2,").uid == 9
    assert names.parse("hand made").uid is None


def test_uids_that_cannot_be_are_none():
    for name in (
        "x,U=0:2,",
        "x,U=01:2,",
        "x,U=4294967296:2,",
        "x,U=99999999999:2,",
        "x,U=-1:2,",
        "x:2,,U=5",
        "ä,U=5:2,",
    ):
        assert names.uid_of(name) is None, name


@given(st.text(st.characters(exclude_characters="/\0", codec="utf-8"), max_size=80))
def test_any_file_name_parses(name):
    parsed = names.parse(name)
    assert parsed.uid is None or 0 < parsed.uid <= names.UID_LIMIT
    assert isinstance(parsed.arrival, tuple)


def test_names_sort_by_the_time_of_delivery():
    made = [names.unique("h") for _ in range(50)]
    by_arrival = sorted(made, key=lambda name: names.parse(name).arrival[1].partition("Q")[0])
    assert [name.partition("Q")[0] for name in by_arrival] == [name.partition("Q")[0] for name in made]


PARTS = ("", "a", "1.h", ",S=12", ",W=13", ",U=7", ",Z=+0100", ":2,", ":2,FS", ":", ",", ",S=", ",x:2,S,a", ":2,a:b")


@given(st.lists(st.sampled_from(PARTS)))
def test_a_name_is_parsed_as_each_question_by_itself_is_answered(parts):
    name = "".join(parts)
    parsed = names.parse(name)
    fields = names.base_of(name).split(",")
    assert parsed.base == ",".join([fields[0], *(field for field in fields[1:] if field != "U=7")])
    assert (parsed.size or 0) == names.size_of(name)
    assert parsed.wire_size == (13 if "W=13" in fields[1:] else None)
    assert (parsed.uid, parsed.letters) == (names.uid_of(name), names.letters_of(name))
