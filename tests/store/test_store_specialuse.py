r"""\Sent and its like: given to a folder, kept with it, and guessed from usual names where nothing was given."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mailserver.mail import Content
from mailserver.store import AccountStore, SpecialUseRefused
from mailserver.store.specialuse import FILE, assign

SENT, TRASH, DRAFTS, JUNK, ARCHIVE = map(frozenset, (["\\Sent"], ["\\Trash"], ["\\Drafts"], ["\\Junk"], ["\\Archive"]))
NONE: frozenset[str] = frozenset()


def uses(account: AccountStore) -> dict[str, frozenset[str]]:
    return {folder.name: folder.special_use for folder in account.folders() if folder.special_use}


def test_usual_names_lead_to_their_uses(account: AccountStore) -> None:
    for name in ("Sent", "drafts", "Deleted Items", "Spam", "Archive", "Work"):
        account.create(name)
    assert uses(account) == {
        "Sent": SENT,
        "drafts": DRAFTS,
        "Deleted Items": TRASH,
        "Spam": JUNK,
        "Archive": ARCHIVE,
    }


def test_of_several_usual_names_the_best_known_counts(account: AccountStore) -> None:
    for name in ("Sent Items", "INBOX/Sent", "Sent Messages", "Bin", "Deleted Items", "lists/Sent"):
        account.create(name)
    assert uses(account) == {"INBOX/Sent": SENT, "Deleted Items": TRASH}
    account.create("Sent")
    assert uses(account) == {"Sent": SENT, "Deleted Items": TRASH}


def test_a_folder_that_was_given_a_use_has_it_and_no_other(account: AccountStore, maildir: Path) -> None:
    account.create("Sent")
    account.create("Gesendet", SENT)
    account.create("Trash", JUNK | DRAFTS)
    assert uses(account) == {"Gesendet": SENT, "Trash": JUNK | DRAFTS}
    assert (maildir / ".Trash" / FILE).read_text() == "\\Drafts\n\\Junk\n"
    assert (maildir / ".Trash" / FILE).stat().st_mode & 0o777 == 0o600


def test_a_use_moves_with_its_folder_and_goes_with_it(account: AccountStore) -> None:
    account.create("Gesendet", SENT)
    account.rename("Gesendet", "Work/Out")
    assert uses(account) == {"Work/Out": SENT}
    account.delete("Work/Out")
    account.create("Ausgang", SENT)
    assert uses(account) == {"Ausgang": SENT}


@pytest.mark.parametrize("use", ["\\All", "\\Flagged", "\\Inbox", "Sent", "\\sent\n\\Trash", ""])
def test_a_use_that_no_folder_can_have_is_refused(account: AccountStore, use: str) -> None:
    with pytest.raises(SpecialUseRefused):
        account.create("X", frozenset([use]))
    assert [folder.name for folder in account.folders()] == ["INBOX"]


def test_a_use_that_another_folder_was_given_is_refused(account: AccountStore) -> None:
    account.create("Gesendet", SENT)
    with pytest.raises(SpecialUseRefused):
        account.create("Out", SENT | TRASH)
    account.create("Sent")
    account.create("Out", TRASH)
    assert uses(account) == {"Gesendet": SENT, "Out": TRASH}


def test_two_that_have_the_same_use_by_hand_do_not_both_lead_to_it(account: AccountStore, maildir: Path) -> None:
    account.create("B", SENT)
    account.create("A")
    (maildir / ".A" / FILE).write_text("\\Sent\n\\Junk\n")
    assert uses(account) == {"A": SENT | JUNK}


@pytest.mark.parametrize("text", ["", "\\Nonsense\n", "\0\xff" * 3000, "\\sent\n"])
def test_a_damaged_file_gives_no_use(account: AccountStore, maildir: Path, text: str) -> None:
    account.create("Gesendet", SENT)
    (maildir / ".Gesendet" / FILE).write_text(text, encoding="latin-1")
    assert uses(account) == {}


@pytest.mark.parametrize("kind", ["link", "fifo", "directory"])
def test_only_a_regular_file_is_read(account: AccountStore, maildir: Path, tmp_path: Path, kind: str) -> None:
    account.create("Gesendet")
    place = maildir / ".Gesendet" / FILE
    match kind:
        case "link":
            (tmp_path / "elsewhere").write_text("\\Sent\n")
            place.symlink_to(tmp_path / "elsewhere")
        case "fifo":
            os.mkfifo(place)
        case "directory":
            place.mkdir()
    assert uses(account) == {}


def test_inbox_has_no_use_and_is_not_less_for_it(account: AccountStore, maildir: Path) -> None:
    (maildir / FILE).write_text("\\Trash\n")
    assert uses(account) == {}
    assert account.open("INBOX").append(Content(b"Subject: x\r\n\r\n")) == 1


def test_each_use_leads_to_one_folder_at_most() -> None:
    given = {"Sent": NONE, "Trash": SENT, "Spam": SENT | JUNK, "Junk": NONE}
    found = assign(given)
    assert found == {"Spam": SENT | JUNK, "Trash": NONE, "Sent": NONE, "Junk": NONE}
