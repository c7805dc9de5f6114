"""`mailserver queue` on the queue of a server that does not run."""

from __future__ import annotations

import json
import re
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from mailserver.mail import Address, Content, DeliverBy, Envelope, MailParameters, Recipient, Reply, parse_mailbox
from mailserver.queue import Attempted, NewEntry, Queue
from tests.support.command import Command


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


@pytest.fixture
def ids(command: Command) -> list[str]:
    """Two entries; the first was tried once."""
    queue = Queue(command.directory / "data" / "queue")
    entries = [
        NewEntry(
            Envelope(parse_mailbox("alice@example.org"), (Recipient(parse_mailbox("x@far.example")),)),
            Content(b"Subject: x\r\n\r\nText\r\n"),
            b"Received: x\r\n",
            1_700_000_000.0,
        ),
        NewEntry(
            Envelope(None, (Recipient(parse_mailbox("y@far.example")), Recipient(parse_mailbox("z@far.example")))),
            Content(b"\r\nText\r\n"),
            b"",
            1_700_000_100.0,
        ),
    ]
    ids = [id for id in queue.add(entries) if isinstance(id, str)]
    (tried,) = queue.show(ids[0]).recipients
    later = replace(
        tried,
        next_attempt=4_000_000_000.0,
        last_attempt=1_700_000_300.0,
        attempts=1,
        reply=Reply.of(450, "4.2.1", "Come \x1b[2J later\u202e"),
        host="mx.far.example",
    )
    queue.record([Attempted(ids[0], keep=[later])])
    queue.close()
    return ids


def test_an_empty_queue_is_not_made_by_looking_at_it(command: Command) -> None:
    assert command.good("queue", "list") == "The queue is empty.\n"
    assert command.good("queue", "list", "--json") == "[]\n"
    assert command.good("queue", "flush", "--all") == "0 entries to be tried now\n"
    assert not (command.directory / "data").exists()


def test_the_list_of_the_queue(command: Command, ids: list[str]) -> None:
    _, first, second, third, summary = command.good("queue", "list").splitlines()
    assert first.split()[0] == ids[0] and "alice@example.org" in first and "450 4.2.1 Come" in first
    assert re.search(r"in \d+ d  450 4\.2\.1 Come", first)
    assert second.split()[0] == ids[1] and "<>" in second and "y@far.example" in second
    assert third.split() == ["z@far.example", "now", "-"]
    assert summary == "2 entries: 2 queued"
    command.good("queue", "hold", ids[0])
    _, first, *_ = command.good("queue", "list").splitlines()
    assert "x@far.example  -  " in re.sub(" {3,}", "  ", first)


def test_a_long_answer_is_cut_visibly_in_the_list(command: Command, ids: list[str]) -> None:
    queue = Queue(command.directory / "data" / "queue")
    (recipient,) = queue.show(ids[0]).recipients
    queue.record([Attempted(ids[0], keep=[replace(recipient, reply=Reply.of(450, "4.2.1", "x" * 300))])])
    queue.close()
    _, first, *_ = command.good("queue", "list").splitlines()
    assert first.endswith("450 4.2.1 " + "x" * 87 + "...")
    assert "x" * 300 in command.good("queue", "show", ids[0])


def test_nothing_that_a_remote_said_reaches_the_terminal_as_a_command(command: Command, ids: list[str]) -> None:
    for output in (command.good("queue", "list"), command.good("queue", "show", ids[0])):
        assert "Come" in output
        assert all(c.isprintable() or c == "\n" for c in output)


def test_one_entry_in_full(command: Command, ids: list[str]) -> None:
    output = command.good("queue", "show", ids[0])
    assert f"{ids[0]}: queued" in output
    assert "to x@far.example: 1 attempt, the last 2023-11-14T22:18:20+00:00: 450 4.2.1" in output
    assert "from mx.far.example; next attempt 2096-10-02T07:06:40+00:00" in output
    assert "not tried yet" in command.good("queue", "show", ids[1])
    entry = json.loads(command.good("queue", "show", ids[0], "--json"))
    assert entry == json.loads(command.good("queue", "list", "--json"))[0]
    assert (entry["id"], entry["state"], entry["sender"]) == (ids[0], "queued", "alice@example.org")
    assert entry["recipients"][0]["host"] == "mx.far.example"


def test_what_its_sender_wants_to_be_held(command: Command, ids: list[str]) -> None:
    queue = Queue(command.directory / "data" / "queue")
    envelope = Envelope(None, (Recipient(Address("x", "far.example")),), MailParameters(release=4_000_000_000.0))
    (id,) = queue.add([NewEntry(envelope, Content(b"x"), b"", 1_700_000_000.0)])
    queue.close()
    assert "not before 2096-10-02T07:06:40+00:00, as the sender asked\n" in command.good("queue", "show", str(id))
    assert json.loads(command.good("queue", "show", str(id), "--json"))["release"] == "2096-10-02T07:06:40+00:00"
    assert command.good("queue", "flush", "--all") == "2 entries to be tried now\n"
    assert command.good("queue", "flush", str(id)) == "1 entry to be tried now\n"


def test_what_its_sender_asks_for_a_message(command: Command, ids: list[str]) -> None:
    by = DeliverBy(4_000_000_000.0, returned=True)
    asked = MailParameters(deliver_by=by, priority=3)
    queue = Queue(command.directory / "data" / "queue")
    envelope = Envelope(None, (Recipient(Address("x", "far.example")),), asked)
    (id,) = queue.add([NewEntry(envelope, Content(b"x"), b"", 1_700_000_000.0)])
    queue.close()
    shown = command.good("queue", "show", str(id))
    assert "by 2096-10-02T07:06:40+00:00, as the sender asked, or it goes back\npriority 3\n" in shown
    data = json.loads(command.good("queue", "show", str(id), "--json"))
    assert (data["deliver_by"], data["returned_if_late"], data["priority"]) == ("2096-10-02T07:06:40+00:00", True, 3)


def test_hold_release_flush_and_remove(command: Command, ids: list[str]) -> None:
    def state() -> dict[str, str]:
        return {entry["id"]: entry["state"] for entry in json.loads(command.good("queue", "list", "--json"))}

    assert command.good("queue", "hold", ids[0]) == "1 entry held\n"
    assert state() == {ids[0]: "held", ids[1]: "queued"}
    assert command.refused("queue", "flush", ids[1], ids[0]) == (
        f"mailserver: {ids[0]} is held; `mailserver queue release {ids[0]}` lets it go first"
    )
    assert command.good("queue", "flush", "--all") == "1 entry to be tried now\n"
    assert command.good("queue", "release", "--all") == "1 entry released\n"
    assert command.good("queue", "flush", ids[0]) == "1 entry to be tried now\n"
    assert "next attempt now" in command.good("queue", "show", ids[0])
    assert command.good("queue", "flush", "--all") == "2 entries to be tried now\n"
    assert f"no entry x{ids[1]}" in command.refused("queue", "remove", ids[0], f"x{ids[1]}")
    assert command.good("queue", "remove", ids[0]) == "1 entry removed\n"
    assert state() == {ids[1]: "queued"}


def test_a_queue_that_cannot_be_opened_is_told_in_one_line(command: Command) -> None:
    (command.directory / "data" / "queue" / "queue.db").mkdir(parents=True)
    assert "\n" not in command.refused("queue", "list")


# Selecting


def test_options_select_what_a_command_is_for(command: Command, ids: list[str]) -> None:
    def listed(*options: str) -> list[str]:
        return [entry["id"] for entry in json.loads(command.good("queue", "list", "--json", *options))]

    assert listed() == listed("--all") == ids
    assert listed(ids[1]) == listed("--id", ids[1]) == [ids[1]]
    assert listed("--sender", "<>") == listed("--recipient", "z@*") == [ids[1]]
    assert listed("--domain", "FAR.example", "--error", "come") == [ids[0]]
    assert listed("--domain", ".example", "--older-than", "2h", "--state", "queued") == ids
    assert listed("--newer-than", "10min") == listed("--id", "unknown") == []
    assert command.good("queue", "list", "--state", "held") == "No entry of the queue fits.\n"
    assert command.good("queue", "hold", "--sender", "@example.org") == "1 entry held\n"
    assert listed("--state", "held") == [ids[0]]
    assert json.loads(command.good("queue", "release", "--all", "--json")) == {"entries": 1, "done": "released"}


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (("hold",), "or all of them by --all alone"),
        (("hold", "--all", "--state", "queued"), "or all of them by --all alone"),
        (("flush", "--sender", "example.org"), '"@example.org" for a domain'),
        (("flush", "--older-than", "5 m"), 'did you mean "5 min"?'),
        (("reroute", "nowhere", "x"), "write mx, smarthost:HOST:PORT"),
    ],
)
def test_a_criterion_that_is_wrong_is_told_with_what_would_be_right(
    command: Command, ids: list[str], arguments: tuple[str, ...], advice: str
) -> None:
    result = command.run("queue", *arguments)
    assert result.exit_code == 2 and advice in " ".join(result.stderr.split())


def test_a_long_list_is_cut_and_says_so(command: Command, ids: list[str]) -> None:
    cut = "1 of 2 entries are shown, the oldest; --limit 2 shows all"
    lines = command.good("queue", "list", "--limit", "1").splitlines()
    assert len(lines) == 4 and lines[3] == cut
    result = command.run("queue", "list", "--limit", "1", "--json")
    assert ([entry["id"] for entry in json.loads(result.stdout)], result.stderr) == (ids[:1], f"mailserver: {cut}\n")
    assert len(json.loads(command.good("queue", "list", "--limit", "0", "--json"))) == 2


def test_a_table_in_parts_keeps_its_columns(command: Command, ids: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = command.good("queue", "list")
    monkeypatch.setattr("mailserver.cli.common.PART_OF_TABLE", 1)
    assert [line.split() for line in command.good("queue", "list").splitlines()] == [
        line.split() for line in whole.splitlines()
    ]


def test_the_summary(command: Command, ids: list[str]) -> None:
    first, header, row = command.good("queue", "list", "--summary").splitlines()
    assert first == "2 entries: 2 queued" and header.split()[0] == "DOMAIN"
    assert re.fullmatch(r"far\.example  3 +\d+ d +450 4\.2\.1 Come .+", row)
    data = json.loads(command.good("queue", "list", "--summary", "--json", "--sender", "<>"))
    assert data == {
        "states": {"queued": 1, "active": 0, "held": 0, "corrupt": 0},
        "domains": [{"domain": "far.example", "recipients": 2, "oldest": "2023-11-14T22:15:00+00:00", "reply": None}],
    }


def test_an_empty_queue_has_a_summary(command: Command) -> None:
    assert command.good("queue", "list", "--summary") == "0 entries\n"
    assert json.loads(command.good("queue", "list", "--summary", "--json"))["domains"] == []


def test_what_is_being_worked_on(command: Command, ids: list[str]) -> None:
    db = sqlite3.connect(command.directory / "data" / "queue" / "queue.db")
    db.execute("UPDATE entry SET lease = 't'")
    db.commit()
    db.close()
    command.good("queue", "hold", ids[1])
    assert f"{ids[0]}  active" in command.good("queue", "list")
    assert "it is being worked on now\n" in command.good("queue", "show", ids[0])
    shown = command.good("queue", "show", ids[1])
    assert f"{ids[1]}: held" in shown and "it is being worked on now\n" in shown


# Removing, requeueing, rerouting


def test_removing_many_is_asked_for_first(command: Command, ids: list[str]) -> None:
    assert "2 entries would be removed for ever; add --yes" in command.refused("queue", "remove", "--all")
    status, shown = command.at_terminal([], "queue", "remove", "--sender", "<>")
    assert (status, shown) == (0, b"1 entry removed\r\n"), "one is removed as if it had been named"


def test_a_terminal_is_asked_before_many_are_removed(command: Command, ids: list[str]) -> None:
    status, shown = command.at_terminal([b"n"], "queue", "remove", "--domain", "far.example")
    assert status == 1 and b"Is that meant?" in shown and b"Aborted" in shown
    assert len(json.loads(command.good("queue", "list", "--json"))) == 2
    status, shown = command.at_terminal([b"y"], "queue", "remove", "--domain", "far.example")
    assert status == 0 and shown.endswith(b"2 entries removed\r\n")


def test_remove_without_a_question(command: Command, ids: list[str]) -> None:
    assert command.good("queue", "remove", "--all", "--yes") == "2 entries removed\n"
    assert command.good("queue", "list") == "The queue is empty.\n"


def test_requeue_forgets_what_was_tried(command: Command, ids: list[str]) -> None:
    assert command.good("queue", "requeue", "--error", "4.2.1") == "1 entry requeued\n"
    assert "to x@far.example: not tried yet\n" in command.good("queue", "show", ids[0])


def test_reroute_sends_another_way_and_back(command: Command, ids: list[str]) -> None:
    assert command.good("queue", "reroute", "smtp:relay.example:26", ids[0]) == "1 entry rerouted\n"
    shown = command.good("queue", "show", ids[0])
    assert "by smarthost:relay.example:26, as an administrator chose\n" in shown and "next attempt now" in shown
    assert "now by smarthost:relay.example:26" in command.good("queue", "list")
    assert command.good("queue", "reroute", "table", "--all") == "2 entries rerouted\n"
    assert json.loads(command.good("queue", "show", ids[0], "--json"))["via"] is None


def test_what_an_administrator_did_stands_in_the_history(command: Command, ids: list[str]) -> None:
    command.good("queue", "hold", ids[0])
    command.good("queue", "reroute", "mx", "--all")
    (path,) = (command.directory / "data" / "queue" / "history").iterdir()
    held, rerouted = map(json.loads, path.read_text().splitlines())
    assert (held["event"], held["by"], held["ids"]) == ("held", "administrator", ids[:1])
    assert (rerouted["event"], rerouted["via"], rerouted["ids"]) == ("rerouted", "mx", sorted(ids))
