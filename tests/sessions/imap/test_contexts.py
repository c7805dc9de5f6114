"""CONTEXT=SEARCH and CONTEXT=SORT (RFC 5267): results that are kept up to date."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.config.model import Limits
from mailserver.imap.sequence import SequenceSet
from mailserver.sessions.imap import kept
from mailserver.sessions.imap.contexts import LIMIT
from mailserver.store import Unavailable
from tests.support.imap import Client, Server

LONG = os.environ.get("MAILSERVER_LONG") == "1"
MESSAGE = b"From: a@example.test\r\nSubject: x\r\n\r\nbody\r\n"


@pytest.fixture
def server(tmp_path: Path) -> Server:
    server = Server(tmp_path)
    server.deliver(MESSAGE, count=5)
    return server


@pytest.fixture
def client(server: Server) -> Client:
    return server.login(select="INBOX")


@pytest.fixture
def other(server: Server) -> Client:
    return server.login(select="INBOX")


def test_what_changes_is_told_by_uid(client: Client, other: Client) -> None:
    answer = client.say(b"B01 UID SEARCH RETURN (UPDATE COUNT) FLAGGED\r\n")
    assert answer == b'* ESEARCH (TAG "B01") UID COUNT 0\r\nB01 OK Searched\r\n'
    other.command("STORE 2:3 +FLAGS (\\Flagged)")
    answer = client.command("NOOP")
    assert answer.endswith(b't OK Done\r\n* ESEARCH (TAG "B01") UID ADDTO (0 2:3)\r\n')
    assert answer.count(b" FETCH ") == 2, "which come first"
    other.command("STORE 2 -FLAGS (\\Flagged)")
    assert client.command("NOOP").endswith(b'* ESEARCH (TAG "B01") UID REMOVEFROM (0 2)\r\n')
    assert b"ESEARCH" not in client.command("NOOP"), "once"
    assert b"ESEARCH" not in client.command("STORE 1 +FLAGS (\\Seen)"), "this makes no difference"


def test_own_changes_are_told_as_well(client: Client) -> None:
    client.say(b"B01 SEARCH RETURN (UPDATE) UNSEEN\r\n")
    assert client.command("FETCH 3 BODY[]").endswith(b't OK Fetched\r\n* ESEARCH (TAG "B01") REMOVEFROM (0 3)\r\n')
    assert client.command("STORE 3 -FLAGS.SILENT (\\Seen)").endswith(b'* ESEARCH (TAG "B01") ADDTO (0 3)\r\n')


def test_new_messages_come_after_exists(server: Server, client: Client) -> None:
    client.say(b"B01 SEARCH RETURN (UPDATE) ALL\r\n")
    server.deliver(MESSAGE)
    answer = client.command("NOOP")
    assert answer.startswith(b"* 6 EXISTS\r\n")
    assert answer.endswith(b'* ESEARCH (TAG "B01") ADDTO (0 6)\r\n')


def test_expunged_messages_leave_before_their_numbers_change(client: Client, other: Client) -> None:
    client.say(b"B01 SEARCH RETURN (UPDATE) ALL\r\n")
    other.command("STORE 2 +FLAGS.SILENT (\\Deleted)")
    client.command("NOOP")
    other.command("EXPUNGE")
    answer = client.command("NOOP")
    assert answer.startswith(b'* ESEARCH (TAG "B01") REMOVEFROM (0 2)\r\n* 2 EXPUNGE\r\n')
    assert answer.count(b"ESEARCH") == 1


def test_an_expunge_is_known_from_the_context_before_it_may_be_told(client: Client, other: Client) -> None:
    """RFC 5267 A.3."""
    client.say(b"B01 SEARCH RETURN (UPDATE) ALL\r\n")
    other.command("STORE 2 +FLAGS.SILENT (\\Deleted)")
    client.command("NOOP")
    other.command("EXPUNGE")
    answer = client.command("FETCH 3 UID")
    assert answer == b'* 3 FETCH (UID 3)\r\nt OK Fetched\r\n* ESEARCH (TAG "B01") REMOVEFROM (0 2)\r\n'
    assert client.command("NOOP").startswith(b"* 2 EXPUNGE\r\n")


def test_while_it_idles_all_comes_at_once(server: Server, client: Client, other: Client) -> None:
    client.say(b"B01 UID SEARCH RETURN (UPDATE) UNDELETED\r\n")
    client.command("IDLE")
    told = client.pushed(lambda: server.deliver(MESSAGE))
    assert told == b'* 6 EXISTS\r\n* 6 RECENT\r\n* ESEARCH (TAG "B01") UID ADDTO (0 6)\r\n'
    told = client.pushed(lambda: other.command("STORE 1 +FLAGS (\\Deleted)"))
    assert told.endswith(b'FLAGS (\\Deleted \\Recent))\r\n* ESEARCH (TAG "B01") UID REMOVEFROM (0 1)\r\n')
    assert client.pushed(lambda: other.command("EXPUNGE")).startswith(b"* 1 EXPUNGE\r\n")


def test_sorted_results_have_positions(server: Server, client: Client, other: Client) -> None:
    for letter in "dbc":
        server.deliver(f"Subject: {letter}\r\n\r\n".encode())
    client.command("NOOP")
    answer = client.say(b"S1 UID SORT RETURN (ALL UPDATE) (SUBJECT) UTF-8 UNDELETED 6:8\r\n")
    assert answer.startswith(b'* ESEARCH (TAG "S1") UID ALL 7:8,6\r\n')
    other.command("STORE 8 +FLAGS (\\Deleted)")
    assert client.command("NOOP").endswith(b'* ESEARCH (TAG "S1") UID REMOVEFROM (2 8)\r\n')
    other.command("STORE 6,7 +FLAGS (\\Deleted)")
    assert client.command("NOOP").endswith(b'* ESEARCH (TAG "S1") UID REMOVEFROM (1 7,6)\r\n')
    other.command("STORE 6:8 -FLAGS (\\Deleted)")
    assert client.command("NOOP").endswith(b'* ESEARCH (TAG "S1") UID ADDTO (1 7:8,6)\r\n')


def test_items_are_fetched_of_new_messages_only_and_before(server: Server, client: Client, other: Client) -> None:
    """RFC 5465 §7."""
    client.say(b'a00 SEARCH RETURN (COUNT UPDATE (UID BODY[HEADER.FIELDS (TO)])) SUBJECT "boss"\r\n')
    client.command("IDLE")
    assert b"FETCH" not in client.pushed(lambda: server.deliver(MESSAGE))
    told = client.pushed(lambda: server.deliver(b"To: x\r\nSubject: big boss\r\n\r\n"))
    assert told == (
        b"* 7 EXISTS\r\n* 7 RECENT\r\n* 7 FETCH (UID 7 BODY[HEADER.FIELDS (TO)] {9}\r\nTo: x\r\n\r\n)\r\n"
        b'* ESEARCH (TAG "a00") ADDTO (0 7)\r\n'
    )


def test_items_of_notify_and_of_searches_make_one_response(server: Server, client: Client) -> None:
    client.command("NOTIFY SET (selected (MessageNew (UID FLAGS) MessageExpunge FlagChange))")
    client.say(b"a SEARCH RETURN (UPDATE (RFC822.SIZE UID)) ALL\r\nb SEARCH RETURN (UPDATE (UID)) FLAGGED\r\n")
    told = client.pushed(lambda: server.deliver(MESSAGE))
    size = len(MESSAGE)
    assert b'* 6 FETCH (UID 6 FLAGS (\\Recent) RFC822.SIZE %d)\r\n* ESEARCH (TAG "a") ADDTO (0 6)\r\n' % size in told
    assert told.count(b"FETCH") == 1


def test_own_messages_are_added_and_not_fetched(client: Client) -> None:
    client.say(b"a SEARCH RETURN (UPDATE (UID)) ALL\r\n")
    answer = client.append("INBOX", MESSAGE)
    assert b"FETCH" not in answer
    assert answer.endswith(b'* ESEARCH (TAG "a") ADDTO (0 6)\r\n')


def test_flags_that_are_set_later_fetch_nothing(client: Client, other: Client) -> None:
    client.say(b"a SEARCH RETURN (UPDATE (UID RFC822.SIZE)) FLAGGED\r\n")
    other.command("STORE 2 +FLAGS (\\Flagged)")
    answer = client.command("NOOP")
    assert b"RFC822.SIZE" not in answer
    assert answer.endswith(b'* ESEARCH (TAG "a") ADDTO (0 2)\r\n')


def test_numbers_mean_what_they_meant(server: Server, client: Client, other: Client) -> None:
    client.say(b"a UID SEARCH RETURN (ALL UPDATE) 2:4\r\n")
    client.command("SEARCH RETURN (SAVE) 3:5")
    client.say(b"b UID SEARCH RETURN (ALL UPDATE) $ FLAGGED\r\n")
    client.command("SEARCH RETURN (SAVE) 1")
    other.command("STORE 1 +FLAGS.SILENT (\\Deleted)")
    other.command("EXPUNGE")
    other.command("UID STORE 1:5 +FLAGS.SILENT (\\Flagged)")
    server.deliver(MESSAGE)
    answer = client.command("NOOP")
    assert b'(TAG "a")' not in answer
    assert answer.endswith(b'* ESEARCH (TAG "b") UID ADDTO (0 3:5)\r\n')


def test_numbers_of_no_message_mean_none_for_ever(server: Server, client: Client) -> None:
    client.say(b"a SEARCH RETURN (ALL UPDATE) 4:9\r\nb SEARCH RETURN (ALL UPDATE) 7:9\r\n")
    server.deliver(MESSAGE, count=5)
    assert b"ADDTO" not in client.command("NOOP")


def test_star_may_mean_another_message(server: Server, client: Client) -> None:
    client.say(b"a UID SEARCH RETURN (ALL UPDATE) UID *\r\n")
    server.deliver(MESSAGE)
    answer = client.command("NOOP")
    assert answer.endswith(b'* ESEARCH (TAG "a") UID REMOVEFROM (0 5)\r\n* ESEARCH (TAG "a") UID ADDTO (0 6)\r\n')


def test_cancelled_and_unknown_contexts(server: Server, client: Client, other: Client) -> None:
    client.say(b"a SEARCH RETURN (UPDATE) ALL\r\nb SEARCH RETURN (UPDATE) ALL\r\n")
    assert client.command('CANCELUPDATE "a" "c"').startswith(b"t BAD "), "none of them"
    server.deliver(MESSAGE)
    assert client.command("NOOP").count(b"ADDTO") == 2
    assert client.command('CANCELUPDATE "a"') == b"t OK No further updates\r\n"
    server.deliver(MESSAGE)
    assert client.command("NOOP").count(b"ADDTO") == 1
    client.command('CANCELUPDATE "b"')
    server.deliver(MESSAGE)
    assert b"ADDTO" not in client.command("NOOP")
    assert client.session.selected.view.touched is None


def test_a_tag_is_used_once(client: Client) -> None:
    client.say(b"B01 SEARCH RETURN (UPDATE) ALL\r\n")
    assert client.say(b"B01 SORT RETURN (UPDATE) (DATE) UTF-8 FLAGGED\r\n").startswith(b"B01 BAD ")
    assert client.say(b"B01 SEARCH RETURN (COUNT) ALL\r\n").endswith(b"B01 OK Searched\r\n"), "no update is asked for"
    client.command('CANCELUPDATE "B01"')
    assert client.say(b"B01 SEARCH RETURN (UPDATE) ALL\r\n").endswith(b"B01 OK Searched\r\n")


def test_too_many_contexts_and_what_changes_by_itself(client: Client) -> None:
    for number in range(LIMIT):
        assert b"NOUPDATE" not in client.say(b"x%d SEARCH RETURN (UPDATE) ALL\r\n" % number)
    answer = client.say(b"y UID SORT RETURN (UPDATE COUNT) (DATE) UTF-8 ALL\r\n")
    assert answer == (
        b'* ESEARCH (TAG "y") UID COUNT 5\r\n* NO [NOUPDATE "y"] There are too many contexts\r\ny OK Sorted\r\n'
    )
    client.command("SELECT INBOX")
    answer = client.say(b"z SEARCH RETURN (UPDATE COUNT) NOT (YOUNGER 3600 SEEN)\r\n")
    assert b'* ESEARCH (TAG "z") COUNT 5\r\n* NO [NOUPDATE "z"] ' in answer


def test_updates_end_with_the_selection(server: Server, client: Client) -> None:
    client.say(b"a SEARCH RETURN (UPDATE) ALL\r\n")
    client.command("SELECT INBOX")
    server.deliver(MESSAGE)
    assert b"ESEARCH" not in client.command("NOOP")
    assert client.say(b"a SEARCH RETURN (UPDATE) ALL\r\n").endswith(b"a OK Searched\r\n"), "so the tag is free"


def test_a_disk_that_fails_loses_no_update(
    server: Server, client: Client, other: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.say(b"a UID SEARCH RETURN (UPDATE) FLAGGED\r\nb UID SEARCH RETURN (UPDATE) TEXT body\r\n")
    other.command("STORE 2 +FLAGS (\\Flagged)")
    server.deliver(MESSAGE)
    with monkeypatch.context() as patched:
        patched.setattr("mailserver.store.mailbox.Mailbox.search_text", _broken)
        answer = client.command("NOOP")
        assert answer.endswith(b'* ESEARCH (TAG "a") UID ADDTO (0 2)\r\n')
    assert client.command("NOOP") == b't OK Done\r\n* ESEARCH (TAG "b") UID ADDTO (0 6)\r\n'


def _broken(*_args: object) -> None:
    raise Unavailable("broken")


def test_who_hears_of_no_messages_hears_of_results_all_the_same(client: Client, other: Client) -> None:
    client.command("NOTIFY NONE")
    client.say(b"a UID SEARCH RETURN (UPDATE) FLAGGED\r\n")
    other.command("STORE 2 +FLAGS (\\Flagged)")
    assert client.command("NOOP") == b't OK Done\r\n* ESEARCH (TAG "a") UID ADDTO (0 2)\r\n'


# what the client has is what a search would find


class Model:
    """A client that believes what it is told."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.results: dict[str, list[int]] = {}
        self.by_uid: dict[str, bool] = {}

    def search(self, tag: str, command: str) -> None:
        answer = self.client.say(f"{tag} {command}\r\n".encode())
        self.by_uid[tag] = command.startswith("UID")
        found = re.search(rb" ALL ([\d:,]+)", answer)
        self.results[tag] = numbers(found[1].decode()) if found else []
        self.hear(answer)

    def hear(self, data: bytes) -> None:
        for line in data.decode().split("\r\n"):
            if gone := re.fullmatch(r"\* (\d+) EXPUNGE", line):
                number = int(gone[1])
                for tag, found in self.results.items():
                    if not self.by_uid[tag]:
                        assert number not in found, "it left before"
                        self.results[tag] = [each - (each > number) for each in found]
            elif update := re.fullmatch(r'\* ESEARCH \(TAG "(\w+)"\)( UID)? (ADDTO|REMOVEFROM) \(([\d:, ]+)\)', line):
                assert bool(update[2]) == self.by_uid[update[1]]
                words = update[4].split(" ")
                for place, which in zip(words[::2], words[1::2], strict=True):
                    self._apply(self.results[update[1]], update[3], int(place), numbers(which))

    @staticmethod
    def _apply(found: list[int], name: str, place: int, which: list[int]) -> None:
        if name == "ADDTO":
            assert not set(which) & set(found)
            assert place <= len(found) + 1
            if place:
                found[place - 1 : place - 1] = which
            else:
                found[:] = sorted(found + which)
        elif place:
            assert found[place - 1 : place - 1 + len(which)] == which
            del found[place - 1 : place - 1 + len(which)]
        else:
            assert set(which) <= set(found)
            found[:] = [each for each in found if each not in which]


def numbers(text: str) -> list[int]:
    return [number for first, last in SequenceSet.parse(text).ranges for number in range(first, last + 1)]


SEARCHES = [
    "SEARCH RETURN ({}) FLAGGED",
    "UID SEARCH RETURN ({}) ALL",
    "SEARCH RETURN ({}) UNDELETED OR FLAGGED SUBJECT b",
    "UID SEARCH RETURN ({}) NOT (SEEN FLAGGED) TEXT body",
    "SEARCH RETURN ({}) UID 3:*",
    "UID SEARCH RETURN ({}) UID *",
    "UID SORT RETURN ({}) (SUBJECT) UTF-8 UNDELETED",
    "SORT RETURN ({}) (REVERSE SUBJECT SIZE) UTF-8 NOT FLAGGED",
    "UID SORT RETURN ({}) (REVERSE ARRIVAL) UTF-8 ALL",
    "SORT RETURN ({}) (SIZE) UTF-8 OR FLAGGED DELETED",
]
FLAGS = st.sampled_from(["\\Flagged", "\\Deleted", "\\Seen", "$Other"])
PLACES = st.integers(1, 12)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("deliver"), st.sampled_from("abc"), st.integers(0, 3)),
        st.tuples(st.sampled_from(["other", "own"]), FLAGS, st.tuples(st.booleans(), PLACES, PLACES)),
        st.tuples(st.sampled_from(["expunge", "own expunge", "noop", "fetch", "move"]), PLACES),
    ),
    max_size=25,
)


@settings(max_examples=600 if LONG else 30, deadline=None)
@given(STEPS, st.sampled_from(["", "NOTIFY", "DELAYED", "DEAF"]), st.integers(1, 3))
def test_results_that_are_kept_up_to_date_are_those_of_a_new_search(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, object, object]], way: str, pairs: int
) -> None:
    server = Server(tmp_path_factory.mktemp("contexts"))
    server.deliver(b"Subject: b\r\n\r\nbody\r\n", count=2)
    server.deliver(b"Subject: a\r\n\r\nbody and more\r\n", count=2)
    client, other = server.login(select="INBOX"), server.login(select="INBOX")
    client.command("CREATE there")
    events = "(MessageNew MessageExpunge FlagChange)"
    ways = {
        "NOTIFY": f"NOTIFY SET (selected {events})",
        "DELAYED": f"NOTIFY SET (selected-delayed {events})",
        "DEAF": "NOTIFY SET (selected (MessageNew MessageExpunge))",
    }
    if way:
        client.command(ways[way])
    model = Model(client)
    previous, kept.PAIRS = kept.PAIRS, 2 * pairs
    try:
        for number, command in enumerate(SEARCHES):
            model.search(f"x{number}", command.format("ALL UPDATE"))
        for step in steps:
            model.hear(client.pushed(lambda step=step: _others_act(server, other, step)))
            if command := _own_command(step):
                model.hear(client.command(command))
        model.hear(client.command("NOOP"))
        model.hear(client.command("NOOP"))
    finally:
        kept.PAIRS = previous
    for number, command in enumerate(SEARCHES):
        fresh = Model(client)
        fresh.search("fresh", command.format("ALL"))
        assert model.results[f"x{number}"] == fresh.results["fresh"], command


def _others_act(server: Server, other: Client, step: tuple) -> None:
    match step:
        case ("deliver", subject, size):
            server.deliver(f"Subject: {subject}\r\n\r\nbody{'y' * size}\r\n".encode())
        case ("other", flag, (on, first, last)):
            other.command(f"UID STORE {first}:{last} {'+' if on else '-'}FLAGS ({flag})")
        case ("expunge", _):
            other.command("EXPUNGE")


def _own_command(step: tuple) -> str:
    match step:
        case ("own", flag, (on, first, last)):
            return f"UID STORE {first}:{last} {'+' if on else '-'}FLAGS.SILENT ({flag})"
        case ("own expunge", _):
            return "EXPUNGE"
        case ("noop", _):
            return "NOOP"
        case ("fetch", uid):
            return f"UID FETCH {uid} BODY[TEXT]"
        case ("move", uid):
            return f"UID MOVE {uid} there"
    return ""


# with other extensions


def test_several_mailboxes_are_searched_and_the_selected_one_is_kept_up_to_date(
    server: Server, client: Client, other: Client
) -> None:
    """RFC 7377 §2.2."""
    other.command("CREATE a")
    other.append("a", MESSAGE, "\\Flagged")
    other.command("STORE 5 +FLAGS.SILENT (\\Flagged)")
    answer = client.say(b"B01 ESEARCH IN (personal) RETURN (UPDATE COUNT) OR FLAGGED 2\r\n")
    validity = server.account.status("INBOX").uidvalidity
    place = b'ESEARCH (TAG "B01" MAILBOX "INBOX" UIDVALIDITY %d) UID ' % validity
    assert place + b"COUNT 2\r\n" in answer
    assert b' MAILBOX "a" ' in answer
    assert b"NOUPDATE" not in answer
    other.command("STORE 1 +FLAGS.SILENT (\\Flagged)")
    assert client.command("NOOP").endswith(b"t OK Done\r\n* " + place + b"ADDTO (0 1)\r\n")
    other.append("a", MESSAGE, "\\Flagged")
    assert b"ESEARCH" not in client.command("NOOP")
    other.command("UID STORE 2 +FLAGS.SILENT (\\Deleted)")
    other.command("UID EXPUNGE 2")
    assert b"* " + place + b"REMOVEFROM (0 2)\r\n* 2 EXPUNGE\r\n" in client.command("NOOP")
    other.command("UID STORE 3 +FLAGS.SILENT (\\Deleted)")
    assert b"ESEARCH" not in client.command("NOOP"), "the number meant another message"
    assert client.say(b"B01 ESEARCH IN (selected) RETURN (UPDATE) ALL\r\n").startswith(b"B01 BAD"), "the tag is used"
    assert b"OK No further" in client.command('CANCELUPDATE "B01"')


def test_no_other_mailbox_is_kept_up_to_date(server: Server, client: Client) -> None:
    client.command("CREATE a")
    client.append("a", MESSAGE)
    answer = client.say(b"B01 ESEARCH IN (mailboxes a) RETURN (UPDATE COUNT) ALL\r\n")
    assert answer.startswith(b'* NO [NOUPDATE "B01"] ')
    assert b" COUNT 1\r\nB01 OK " in answer
    client.append("a", MESSAGE)
    client.command("STORE 1 +FLAGS (\\Seen)")
    assert b"ESEARCH" not in client.command("NOOP")
    client.command("UNSELECT")
    assert client.command("ESEARCH IN (mailboxes a) RETURN (UPDATE) ALL").startswith(b"t BAD ")
    assert b" COUNT 2\r\nt OK " in client.command("ESEARCH IN (mailboxes a) RETURN (CONTEXT COUNT) ALL")


def test_what_is_nearly_right_is_added_as_well(server: Server, client: Client) -> None:
    client.say(b"B01 UID SEARCH RETURN (UPDATE RELEVANCY ALL) FUZZY (SUBJECT welcme 1:*)\r\n")
    server.deliver(b"Subject: welcome\r\n\r\n")
    assert b"ADDTO" not in client.command("NOOP"), "the numbers meant the messages that were there"
    client.say(b"B02 UID SEARCH RETURN (UPDATE) FUZZY SUBJECT welcme\r\n")
    server.deliver(b"Subject: goodbye\r\n\r\n")
    server.deliver(b"Subject: welcome\r\n\r\n")
    assert client.command("NOOP").endswith(b'* ESEARCH (TAG "B02") UID ADDTO (0 8)\r\n')


def test_what_is_sorted_by_relevancy_is_not_kept_up_to_date(server: Server, client: Client) -> None:
    server.deliver(b"Subject: welcome\r\n\r\n")
    client.command("NOOP")
    answer = client.say(b"B01 UID SORT RETURN (UPDATE ALL) (RELEVANCY) UTF-8 FUZZY SUBJECT welcome\r\n")
    assert b'* ESEARCH (TAG "B01") UID ALL 6\r\n* NO [NOUPDATE "B01"] ' in answer
    server.deliver(b"Subject: welcome\r\n\r\n")
    assert b"ESEARCH" not in client.command("NOOP")


@pytest.mark.parametrize("command", ["UID SEARCH RETURN (UPDATE ALL)", "ESEARCH IN (selected) RETURN (UPDATE ALL)"])
def test_where_only_the_newest_are_searched_only_they_and_new_ones_are_added(tmp_path: Path, command: str) -> None:
    """RFC 9738."""
    server = Server(tmp_path / "limited", limits=Limits().model_copy(update={"imap_messages": 3}))
    server.deliver(MESSAGE, count=5)
    client, other = server.login(select="INBOX"), server.login(select="INBOX")
    answer = client.say(f"B01 {command} UNSEEN UID 1:*\r\n".encode())
    assert b" UID ALL 3:5\r\n" in answer
    other.command("STORE 2,4 +FLAGS (\\Flagged)")
    assert b"ADDTO" not in client.command("NOOP")
    other.command("STORE 1,4 +FLAGS (\\Seen)")
    assert client.command("NOOP").endswith(b" UID REMOVEFROM (0 4)\r\n")
    server.deliver(MESSAGE)
    assert client.command("NOOP").endswith(b" UID ADDTO (0 6)\r\n")
