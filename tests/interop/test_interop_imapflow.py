"""ImapFlow, a client for Node: compressed, with QRESYNC, told by IDLE; the scenarios are in imapflow.cjs."""

from __future__ import annotations

from tests.support.clients import imapflow
from tests.support.server import RunningServer

LARGE = 1 << 20  # the text of the last message of the scenario


def test_keeps_house(server: RunningServer) -> None:
    told = imapflow(server, "house")
    assert "COMPRESS DEFLATE" in " ".join(told["said"])
    assert set(told["enabled"]) >= {"CONDSTORE", "QRESYNC"}
    assert told["tree"] == [["INBOX", []], ["Sent", []], ["Büro", ["Büro/Ablage"]]]
    listed = {folder.pop("path"): folder for folder in told["list"]}
    assert listed["Sent"]["specialUse"] == "\\Sent"
    assert listed["Büro/Ablage"]["subscribed"]
    assert [folder["status"]["messages"] for folder in listed.values()] == [0, 0, 0, 0]
    assert (told["appended"]["destination"], told["appended"]["uid"]) == ("Büro", 1)
    assert [told["status"][name] for name in ("messages", "unseen", "uidNext")] == [3, 2, 4]
    assert told["found"] == {"unseen": [2, 3], "text": [2], "either": [1, 3], "keyword": [1]}
    first, second, third = told["messages"]
    assert (first["uid"], first["subject"], first["type"], first["size"]) == (1, "first", "text/plain", 21)
    assert first["date"] == "2024-02-29T23:59:58.000Z"
    assert {"\\Seen", "$Label1"} <= set(first["flags"])
    assert second["length"] == second["size"]
    assert third["length"] == third["size"] > LARGE
    assert len({message["emailId"] for message in told["messages"]}) == 3
    assert told["octets"] == LARGE + 2
    assert told["flagged"] is told["deleted"] is True
    assert (told["moved"], told["copied"]) == ([[1, 1], [3, 2]], [[2, 1]])
    assert told["left"] == 0
    assert told["renamed"] == ["INBOX", "Sent", "Office", "Office/Ablage"]


def test_catches_up_by_qresync(server: RunningServer) -> None:
    told = imapflow(server, "resync")
    vanished = [["expunge", uid, True] for uid in (3, 4, 9)]
    changed = [["flags", 2, ["\\Flagged"]], ["flags", 5, ["\\Flagged"]], ["flags", 10, []]]
    assert told["qresync"] is told["later"] is True
    assert told["events"] == [*vanished, *changed, *vanished]  # by SELECT, and once more by FETCH (CHANGEDSINCE)
    assert (told["exists"], told["changed"]) == (7, [2, 5, 10])


def test_hears_while_idle(server: RunningServer) -> None:
    exists, (event, uid, flags), expunge = imapflow(server, "idle")
    assert (exists, expunge) == (["exists", 1, None], ["expunge", 1, None])
    assert (event, uid) == ("flags", 1)
    assert "\\Flagged" in flags
