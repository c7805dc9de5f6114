"""`mailserver why`: the way of a message from its arrival to its end, by any name, in words and in JSON."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mailserver.mail import Action, Address, Content, DeliveryStatus, Envelope, Recipient, Reply, parse_mailbox
from mailserver.mail.trace import Arrival
from mailserver.queue import Attempted, Destination, History, NewEntry, Queue
from mailserver.queue import trail as trail_module
from tests.support.command import Command

ALICE, BOB, CAROL = Address("alice", "example.org"), Address("bob", "example.net"), Address("carol", "example.org")
ARRIVAL = Arrival("laptop", "192.0.2.7", "ESMTPSA", "s1.1", "TLSv1.3 X", "alice@example.org")
OK = Reply.of(250, "2.0.0", "Ok")
BUSY = Reply.of(450, "4.2.1", "Busy \x1b[2J")
UNKNOWN = Reply.of(550, "5.1.1", "No such user")
HOUR, DAY = 3600.0, 86400.0


class World:
    """A server's data, and what it notes, at times that tests choose."""

    def __init__(self, directory: Path) -> None:
        self.command = Command(directory)
        self.data = directory / "data" / "queue"
        self.data.mkdir(parents=True)
        self.now = time.time()
        self.history = History(self.data / "history", 1e9, clock=lambda: self.now)

    def at(self, seconds: float) -> History:
        """To be noted at this time from now, which is in the past."""
        self.history.flush()
        self.now = time.time() + seconds
        return self.history

    def why(self, *arguments: str) -> str:
        self.history.flush()
        return self.command.good("why", *arguments)

    def queued(self, to: Address = BOB, sender: Address | None = ALICE, reply: Reply | None = None) -> str:
        queue = Queue(self.data)
        (id,) = queue.add([NewEntry(Envelope(sender, (Recipient(to),)), Content(b"x\r\n"), b"", time.time() - HOUR)])
        assert isinstance(id, str)
        if reply is not None:
            (recipient,) = queue.show(id).recipients
            keep = replace(recipient, attempts=2, reply=reply, next_attempt=time.time() + 650)
            queue.record([Attempted(id, keep=[keep])])
        queue.close()
        return id

    def story(self, queue_id: str = "q1") -> None:
        """Came in for two; one was put off, then refused, of which the sender was told; the report was delivered."""
        to = [Destination(BOB, queue=queue_id), Destination(CAROL, mailbox=CAROL, reply=OK)]
        self.at(-3 * HOUR).accepted(ARRIVAL, ALICE, 1234, to, OK)
        status = DeliveryStatus(BOB, Action.DELAYED, BUSY, "mx.example.net")
        self.at(-2 * HOUR).attempted(queue_id, status, site="mx.example.net", next_attempt=self.now + HOUR)
        self.history.reported(queue_id, "r0", ALICE, "delay")
        self.at(-HOUR).attempted(queue_id, DeliveryStatus(BOB, Action.FAILED, UNKNOWN, "mx.example.net"))
        self.history.reported(queue_id, "r1", ALICE, "failure")
        self.history.attempted("r1", DeliveryStatus(ALICE, Action.DELIVERED, OK))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def lines(text: str) -> list[str]:
    """Without the times."""
    return [re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  ", "", line.strip()) for line in text.splitlines()]


# One message


@pytest.mark.parametrize("name", ["s1.1", "q1", "r1", "r0"])
def test_the_whole_way_of_a_message_by_any_of_its_ids(world: World, name: str) -> None:
    world.story()
    world.at(-HOUR).attempted("other", DeliveryStatus(BOB, Action.RELAYED, OK, "mx.example.net"))
    world.queued(to=CAROL)
    said = lines(world.why(name))
    again = re.search(r"tried again at \S+ \S+$", said[5])
    assert again is not None
    assert said == [
        "Message s1.1 (times in UTC)",
        "It came from laptop [192.0.2.7] by ESMTPSA, encrypted with TLSv1.3 X, logged in as alice@example.org.",
        "from <alice@example.org>, 1234 octets",
        "to bob@example.net: put into the queue as q1",
        "to carol@example.org: delivered into the mailbox carol@example.org",
        f'To bob@example.net: not delivered yet: mx.example.net said "450 4.2.1 Busy ?[2J". It is {again[0]}',
        "alice@example.org is told that it takes long, by the report r0.",
        'To bob@example.net: failed for good: mx.example.net said "550 5.1.1 No such user".',
        "alice@example.org is told that it could not be delivered, by the report r1.",
        "The report r1 to alice@example.org: delivered into a mailbox of this server.",
        f"{'now':21}Nothing of it waits in the queue any more.",
    ]


def test_what_still_waits_is_told_with_what_happens_next(world: World) -> None:
    id = world.queued(reply=BUSY)
    world.story(id)
    said = world.why(id)
    assert f"now                  {id} waits in the queue, since " in said
    assert re.search(
        rf'{id} to bob@example.net: tried 2 times, .*"450 4.2.1 Busy \?\[2J"; the next .* in 10 min, at', said
    )
    world.command.good("queue", "hold", id)
    said = world.why(id)
    assert f"An administrator held {id}: it is not tried until it is released." in said
    assert f"{id} is held; `mailserver queue release {id}` lets it go." in said
    assert "the next attempt is when it is released." in said
    world.command.good("queue", "release", id)
    world.command.good("queue", "reroute", "mx", "--all")
    said = world.why(id)
    assert f"An administrator sent {id} by mx." in said and f"{id} goes by mx, as an administrator chose." in said
    assert "the next attempt is now." in said
    world.command.good("queue", "remove", id)
    assert "removed" in lines(world.why(id))[-2] and "Nothing of it waits" in world.why(id)


def test_an_entry_of_which_only_the_queue_knows(world: World) -> None:
    id = world.queued()
    said = lines(world.why(id))
    assert said[0] == f"Entry {id} (times in UTC)" and "the history does not go back that far" in said[1]
    assert said[3] == f"now                  {id} to bob@example.net: not tried yet; the first attempt is now."


def test_a_message_that_nobody_got(world: World) -> None:
    world.at(-60).accepted(
        replace(ARRIVAL, tls="", login=""), None, 5, [Destination(CAROL, mailbox=CAROL, reply=UNKNOWN)], UNKNOWN
    )
    said = lines(world.why("s1.1"))
    assert said[1].endswith("ESMTPSA, not encrypted, without login, and was not taken: 550 5.1.1 No such user")
    assert said[2:4] == ["from <>, 5 octets", "to carol@example.org: not taken: 550 5.1.1 No such user"]


def test_many_recipients_a_mailbox_that_waits_and_an_alias(world: World) -> None:
    alias = Address("info", "example.org")
    to = [Destination(Address(f"u{n}", "example.net"), queue="q1") for n in range(20)]
    to.append(Destination(CAROL, queue="q2", mailbox=CAROL, reply=BUSY, original=alias))
    world.at(-60).accepted(ARRIVAL, ALICE, 5, to, OK)
    said = lines(world.why("q2"))
    assert sum("It came from" in line for line in said) == 1 and said[23] == "It was also for"
    assert said[24].startswith(
        "to carol@example.org (written as info@example.org): the mailbox carol@example.org could"
    )
    assert said[24].endswith("it waits in the queue as q2")


def test_other_events_are_told_as_well(world: World) -> None:
    history = world.at(-60)
    history.discarded("q1", BOB)
    history.attempted("q1", DeliveryStatus(BOB, Action.RELAYED, OK, "mx.example.net"), site="smarthost:relay:25")
    history.reported("q1", "r1", None, "double bounce")
    history.reported("q1", "r2")
    history.removed("q1")
    history.note("novelty", "q1", what="\x1b[2J")
    said = lines(world.why("q1"))
    assert said[1:7] == [
        "To bob@example.net: thrown away, as the routing table has it.",
        'To bob@example.net: mx.example.net has taken it, by way of smarthost:relay:25; it said "250 2.0.0 Ok".',
        "This report could not be delivered; The sender gets a copy of it as r1.",
        "The sender was sent the report r2.",
        "q1 was removed from the queue while it was being worked on.",
        "novelty: {'id': 'q1', 'what': '\\x1b[2J'}",
    ]


def test_what_is_told_as_json(world: World) -> None:
    id = world.queued()
    world.story(id)
    (found,) = json.loads(world.why(id, "--json"))
    assert sorted(found) == ["events", "ids", "queue_problem", "waiting"]
    assert found["ids"] == sorted([id, "r0", "r1", "s1.1"]) and found["queue_problem"] is None
    assert [event["event"] for event in found["events"]][:2] == ["accepted", "attempted"]
    assert [entry["id"] for entry in found["waiting"]] == [id]


def test_a_change_of_many_joins_nothing(world: World) -> None:
    world.at(-60).administered("flushed", ["q1", "q2"])
    world.history.discarded("q2", BOB)
    said = world.why("q1")
    assert "An administrator asked to try q1 at once." in said and "thrown away" not in said


# By address


def test_the_messages_of_an_address_are_blocks_the_newest_first(world: World) -> None:
    for number, day in ((1, -3), (2, -2), (3, -1)):
        arrival = replace(ARRIVAL, id=f"s{number}.1")
        sender = parse_mailbox("Bob@EXAMPLE.net") if number == 2 else ALICE
        to = CAROL if number == 2 else BOB
        world.at(day * DAY).accepted(arrival, sender, 1, [Destination(to, queue=f"q{number}")], OK)
    world.at(-60).attempted("q1", DeliveryStatus(BOB, Action.RELAYED, OK, "mx"))
    world.history.attempted("q9", DeliveryStatus(CAROL, Action.RELAYED, OK, "mx"))
    said = world.why("bob@example.net")
    assert [line.split()[1] for line in said.splitlines() if "(times in UTC)" in line] == ["s1.1", "s3.1", "s2.1"]
    assert "has taken it" in said.split("\n\n")[0]
    assert "s2.1" not in world.why("bob@example.net", "--days", "1")


def test_more_messages_than_are_shown(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailserver.cli.why.MESSAGES", 2)
    for number in range(4):
        world.at(-60 + number).accepted(replace(ARRIVAL, id=f"s{number}.1"), ALICE, 1, [Destination(BOB)], OK)
    said = world.why("<alice@example.org>")
    assert "Message s3.1" in said and "Message s2.1" in said and "s1.1" not in said
    assert said.endswith("\nThese are the newest 2 messages; there are more.\n")


def test_an_address_in_either_form_of_its_domain(world: World) -> None:
    world.at(-60).discarded("q1", Address("bob", "b\u00fccher.example"))
    world.history.discarded("q2", Address("bob", "xn--bcher-kva.example"))
    for written in ("bob@B\u00dcCHER.example", "BOB@xn--bcher-kva.example"):
        assert len(json.loads(world.why(written, "--json"))) == 2


def test_what_waits_for_an_address_and_is_older_than_the_history(world: World) -> None:
    id = world.queued()
    assert f"Entry {id}" in world.why("bob@example.net") and f"Entry {id}" in world.why("alice@example.org")


# When something is missing


def test_nothing_is_known(world: World) -> None:
    for name in ("unknown", "nobody@example.org"):
        said = world.command.refused("why", name)
        assert said.startswith(f"mailserver: nothing is known of {name} in the last 14 days; write an id")
    assert "in the last 1 day;" in world.command.refused("why", "unknown", "--days", "1")
    assert "is not an address" in world.command.refused("why", "a@b@c")


def test_without_a_queue_or_with_a_broken_one_the_history_is_told(world: World) -> None:
    world.story()
    assert "What waits in the queue is not known: there is no " in world.why("q1")
    (world.data / "queue.db").write_bytes(b"no database" * 1000)
    said = world.why("q1")
    assert "failed for good" in said and "not a database" in said
    assert "file is not a database" in world.why("alice@example.org")
    assert (world.data / "queue.db").read_bytes() == b"no database" * 1000


def test_a_queue_with_a_broken_page(world: World) -> None:
    id = world.queued()
    world.story(id)
    raw = bytearray((world.data / "queue.db").read_bytes())
    raw[4096:] = bytes(len(raw) - 4096)
    (world.data / "queue.db").write_bytes(raw)
    for name in (id, "alice@example.org"):
        said = world.why(name)
        assert "failed for good" in said and "What waits in the queue is not known: " in said


def test_lines_that_are_broken_are_passed_over(world: World) -> None:
    world.story()
    world.history.flush()
    for path in (world.data / "history").iterdir():
        path.write_bytes(
            b'{"id": "q1"\n\n"q1"\n[1, "q1"]\n{"ids": 5, "event": "q1"}\n'
            + b'{"id": "q1", "recipients": [7, {"queue": 9}]}\n'
            + path.read_bytes()
            + b'\xff "q1"\n{"id": "q1"'
        )
    assert "failed for good" in world.why("q1")
    assert "failed for good" in world.why("bob@example.net")


@pytest.mark.parametrize("piece", [1, 7, 100, 1000])
def test_lines_are_found_wherever_pieces_of_a_file_begin(
    world: World, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    world.story()
    whole = world.why("q1")
    monkeypatch.setattr(trail_module, "PIECE", piece)
    assert world.why("q1") == whole
