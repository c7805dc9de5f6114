"""NOTIFY (RFC 5465): what is told unasked, of which mailboxes, and when."""

from pathlib import Path

import pytest

from mailserver.config.model import IMAP
from mailserver.mail import Content
from mailserver.sessions.imap import notices
from mailserver.sessions.imap.watching import POLL
from mailserver.store import Addition, Store
from tests.support.imap import ALICE, Client, Server

MESSAGE = b"From: a@example.test\r\nSubject: x\r\n\r\nbody\r\n"
ALL = "(MessageNew MessageExpunge FlagChange)"


@pytest.fixture
def server(tmp_path: Path) -> Server:
    server = Server(tmp_path)
    server.deliver(MESSAGE, count=2)
    return server


@pytest.fixture
def client(server: Server) -> Client:
    return server.login(select="INBOX")


@pytest.fixture
def other(server: Server) -> Client:
    return server.login(select="INBOX")


def live_timers(server: Server) -> int:
    return sum(not timer.cancelled for timer in server.clock.timers)


# the selected mailbox


def test_selected_hears_of_everything_at_once_without_a_command(server: Server, client: Client, other: Client) -> None:
    assert client.lines(f"NOTIFY SET (selected {ALL})") == []
    assert client.pushed(lambda: server.deliver(MESSAGE)) == b"* 3 EXISTS\r\n* 3 RECENT\r\n"
    told = client.pushed(lambda: other.command("STORE 1 +FLAGS (\\Deleted)"))
    assert told == b"* 1 FETCH (UID 1 FLAGS (\\Deleted \\Recent))\r\n"
    assert client.pushed(lambda: other.command("EXPUNGE")) == b"* 1 EXPUNGE\r\n* 2 RECENT\r\n"
    assert client.command("NOOP") == b"t OK Done\r\n", "all was told"


def test_after_qresync_expunges_are_vanished(server: Server, client: Client, other: Client) -> None:
    client.command("ENABLE QRESYNC")
    client.command(f"NOTIFY SET (selected {ALL})")
    other.command("STORE 1 +FLAGS (\\Deleted)")
    assert client.pushed(lambda: other.command("EXPUNGE")).startswith(b"* VANISHED 1\r\n")


def test_selected_delayed_keeps_expunges_until_a_command_allows_them(
    server: Server, client: Client, other: Client
) -> None:
    client.command(f"NOTIFY SET (selected-delayed {ALL})")
    assert b"FETCH" in client.pushed(lambda: other.command("STORE 1 +FLAGS (\\Deleted)"))
    assert client.pushed(lambda: other.command("EXPUNGE")) == b""
    assert client.pushed(lambda: server.deliver(MESSAGE)) == b"* 3 EXISTS\r\n* 3 RECENT\r\n", "numbers stay"
    assert client.command("FETCH 3 UID") == b"* 3 FETCH (UID 3)\r\nt OK Fetched\r\n"
    assert client.command("NOOP").startswith(b"* 1 EXPUNGE\r\n")


def test_selected_delayed_hears_of_expunges_while_it_idles(server: Server, client: Client, other: Client) -> None:
    client.command(f"NOTIFY SET (selected-delayed {ALL})")
    other.command("STORE 1 +FLAGS (\\Deleted)")
    other.command("EXPUNGE")
    assert client.command("IDLE").startswith(b"+ idling\r\n* 1 EXPUNGE\r\n")
    other.command("STORE 1 +FLAGS (\\Deleted)")
    assert b"* 1 EXPUNGE" in client.pushed(lambda: other.command("EXPUNGE"))
    assert client.say(b"DONE\r\n").endswith(b"OK Idle no longer\r\n")


def test_an_expunge_that_a_command_may_not_tell_comes_behind_it(server: Server, client: Client, other: Client) -> None:
    client.command(f"NOTIFY SET (selected {ALL})")
    other.command("STORE 1 +FLAGS (\\Deleted)")
    client.channel.talking = True  # the client's own command is at work meanwhile
    other.command("EXPUNGE")
    client.channel.talking = False
    answer = client.command("FETCH 1:2 UID")
    assert answer.startswith(b"* 1 FETCH (UID 1)\r\n* 2 FETCH (UID 2)\r\nt OK Fetched\r\n* 1 EXPUNGE\r\n")


def test_new_messages_are_fetched_as_it_was_asked_for(server: Server, client: Client) -> None:
    client.command("NOTIFY SET (selected (MessageNew (UID BODY.PEEK[HEADER.FIELDS (SUBJECT)]) MessageExpunge))")
    told = client.pushed(lambda: server.deliver(MESSAGE))
    fetch = b"* 3 FETCH (UID 3 BODY[HEADER.FIELDS (SUBJECT)] {14}\r\nSubject: x\r\n\r\n)\r\n"
    assert told == b"* 3 EXISTS\r\n* 3 RECENT\r\n" + fetch
    assert b"FETCH" not in client.command("NOOP"), "once"


def test_body_does_not_set_seen(server: Server, client: Client) -> None:
    client.command("NOTIFY SET (selected (MessageNew (BODY[TEXT]) MessageExpunge FlagChange))")
    assert client.pushed(lambda: server.deliver(MESSAGE)).endswith(b"* 3 FETCH (BODY[TEXT] {6}\r\nbody\r\n)\r\n")
    assert client.lines("FETCH 3 FLAGS") == [b"3 FETCH (FLAGS (\\Recent))"]


def test_own_messages_are_announced_and_not_fetched(server: Server, client: Client) -> None:
    client.command("NOTIFY SET (selected (MessageNew (UID) MessageExpunge))")
    assert b"* 3 EXISTS" in (answer := client.append("INBOX", MESSAGE))
    assert b"FETCH" not in answer
    assert b"FETCH" not in client.command("COPY 1 INBOX")
    assert client.pushed(lambda: server.deliver(MESSAGE)).endswith(b"* 5 FETCH (UID 5)\r\n")


def test_messages_that_a_command_announced_are_fetched_behind_it(server: Server, client: Client) -> None:
    client.command("NOTIFY SET (selected (MessageNew (UID) MessageExpunge))")
    client.channel.talking = True
    server.deliver(MESSAGE, count=2)
    client.channel.talking = False
    answer = client.command("NOOP")
    assert answer.endswith(b"t OK Done\r\n* 3 FETCH (UID 3)\r\n* 4 FETCH (UID 4)\r\n")
    assert b"* 4 EXISTS" in answer


def test_a_large_message_is_streamed_and_no_command_comes_between(server: Server, client: Client) -> None:
    client.command("NOTIFY SET (selected (MessageNew (BODY.PEEK[]) MessageExpunge))")
    large = MESSAGE + b"x" * 70 + b"\r\n" + b"y" * 76 * 40_000 + b"\r\n"
    told = client.pushed(lambda: server.deliver(large))
    assert told.endswith(b"* 3 FETCH (BODY[] {%d}\r\n%b)\r\n" % (len(large), large))


def test_without_flag_change_flags_are_not_told_until_they_are_wanted(
    server: Server, client: Client, other: Client
) -> None:
    client.command("NOTIFY SET (selected (MessageNew MessageExpunge))")
    assert client.pushed(lambda: other.command("STORE 1 +FLAGS (\\Flagged)")) == b""
    assert client.command("NOOP") == b"t OK Done\r\n"
    assert client.lines("SEARCH FLAGGED") == [b"SEARCH 1"]
    assert client.lines(f"NOTIFY SET (selected {ALL})") == [b"1 FETCH (UID 1 FLAGS (\\Flagged \\Recent))"]


@pytest.mark.parametrize(
    "command", ["NOTIFY NONE", "NOTIFY SET (selected NONE)", "NOTIFY SET (personal (MailboxName))"]
)
def test_who_wants_nothing_of_the_selected_mailbox_is_told_nothing(
    server: Server, client: Client, other: Client, command: str
) -> None:
    other.command("STORE 2 +FLAGS (\\Deleted)")
    client.command("NOOP")
    client.command(command)
    server.deliver(MESSAGE)
    other.command("STORE 1 +FLAGS (\\Flagged)")
    other.command("EXPUNGE")
    assert client.command("NOOP") == b"t OK Done\r\n"
    assert client.command("IDLE") == b"+ idling\r\n"
    assert client.pushed(lambda: server.deliver(MESSAGE)) == b""
    client.say(b"DONE\r\n")
    assert client.lines("FETCH 1:* UID") == [b"1 FETCH (UID 1)", b"2 FETCH (UID 2)"], "no number that it was not told"
    assert client.lines("FETCH 1 FLAGS") == [b"1 FETCH (FLAGS (\\Flagged \\Recent))"]
    assert b"* 1 FETCH (FLAGS" in client.command("STORE 1 +FLAGS (\\Draft)")
    told = client.lines(f"NOTIFY SET (selected {ALL})")
    assert told[:2] == [b"2 EXPUNGE", b"3 EXISTS"], "what has gathered"


def test_what_the_client_expunges_itself_it_hears_in_any_case(server: Server, client: Client, other: Client) -> None:
    client.command("NOTIFY NONE")
    other.command("STORE 2 +FLAGS (\\Deleted)")
    other.command("EXPUNGE")
    client.command("STORE 1 +FLAGS.SILENT (\\Deleted)")
    assert client.lines("EXPUNGE") == [b"1 EXPUNGE"]
    server.deliver(MESSAGE)
    client.command("CREATE there")
    client.command(f"NOTIFY SET (selected {ALL})")
    client.command("NOTIFY NONE")
    answer = client.command("MOVE 1 there")
    assert b"* 1 EXPUNGE\r\n" in answer


def test_with_condstore_no_modseq_hides_what_was_not_told(server: Server, client: Client, other: Client) -> None:
    client.command("ENABLE CONDSTORE")
    client.command("NOTIFY NONE")
    told = client.session.modseq_code
    other.command("STORE 1 +FLAGS (\\Flagged)")
    server.deliver(MESSAGE)
    answer = client.command("STORE 2 +FLAGS (\\Draft)")
    assert f"[{told}]".encode() in answer


def test_the_selected_mailbox_is_whichever_is_selected(server: Server, client: Client) -> None:
    client.command(f"NOTIFY SET (selected {ALL})")
    client.command("CREATE a")
    client.command("UNSELECT")
    assert client.pushed(lambda: server.deliver(MESSAGE)) == b""
    client.command("SELECT a")
    assert client.pushed(lambda: server.deliver(MESSAGE)) == b""
    client.command("SELECT INBOX")
    assert b"* 5 EXISTS" in client.pushed(lambda: server.deliver(MESSAGE))


def test_a_deleted_mailbox_ends_the_connection(server: Server) -> None:
    client, other = server.login(), server.login()
    other.command("CREATE gone")
    client.command("SELECT gone")
    client.command(f"NOTIFY SET (selected {ALL})")
    assert client.pushed(lambda: other.command("DELETE gone")) == b"* BYE The selected mailbox was deleted\r\n"
    client.session.lost()
    assert live_timers(server) == 0


def test_while_a_message_is_appended_nothing_is_told(server: Server, client: Client) -> None:
    client.command(f"NOTIFY SET (selected {ALL})")
    client.say(b"x APPEND INBOX {%d}\r\n" % len(MESSAGE))
    assert client.pushed(lambda: server.deliver(MESSAGE)) == b""
    assert b"* 4 EXISTS" in client.say(MESSAGE + b"\r\n")


# other mailboxes


@pytest.fixture
def folders(server: Server) -> Client:
    """Somebody who makes folders and changes them."""
    somebody = server.login()
    for name in ("Lists", "Lists/a", "Lists/a/b", "Lists/c", "misc"):
        somebody.command(f"CREATE {name}")
    return somebody


def add(server: Server, mailbox: str, count: int = 1) -> None:
    opened = server.account.open(mailbox)
    try:
        for _ in range(count):
            opened.append_many([Addition(Content(MESSAGE))])
    finally:
        opened.close()


def test_status_tells_where_all_are_before_the_answer(server: Server, client: Client, folders: Client) -> None:
    add(server, "Lists/a", 3)
    told = client.lines("NOTIFY SET STATUS (selected NONE) (subtree Lists (MessageNew MessageExpunge))")
    validity = server.account.status("Lists/a").uidvalidity
    assert b'STATUS "Lists/a" (MESSAGES 3 UIDNEXT 4 UIDVALIDITY %d)' % validity in told
    assert len(told) == 4
    told = client.lines(
        f"NOTIFY SET STATUS (mailboxes misc {ALL}) (mailboxes (INBOX none) (MessageNew MessageExpunge))"
    )
    assert len(told) == 1, "not of what is selected, nor of what there is not"
    assert told[0].startswith(b'STATUS "misc" (MESSAGES 0 UIDNEXT 1 UIDVALIDITY ')
    assert b" HIGHESTMODSEQ " in told[0]
    assert client.lines("NOTIFY SET STATUS (personal NONE)") == []
    assert client.lines("NOTIFY SET STATUS (personal (MailboxName))") == []


@pytest.mark.parametrize(
    ("specifier", "heard"),
    [
        ("personal", {"INBOX", "Lists", "Lists/a", "Lists/a/b", "Lists/c", "misc"}),
        ("inboxes", {"INBOX"}),
        ("subscribed", {"misc", "Lists/c"}),
        ("subtree Lists/a", {"Lists/a", "Lists/a/b"}),
        ("subtree-one Lists", {"Lists", "Lists/a", "Lists/c"}),
        ("subtree (Lists/a misc)", {"Lists/a", "Lists/a/b", "misc"}),
        ("mailboxes Lists", {"Lists"}),
        ('mailboxes (inbox Lists/c "Lists/%")', {"INBOX", "Lists/c"}),
    ],
)
def test_each_kind_of_mailboxes(server: Server, folders: Client, specifier: str, heard: set[str]) -> None:
    folders.command("SUBSCRIBE misc")
    folders.command("SUBSCRIBE Lists/c")
    client = server.login()
    client.command(f"NOTIFY SET ({specifier} (MessageNew MessageExpunge))")
    for name in ("INBOX", "Lists", "Lists/a", "Lists/a/b", "Lists/c", "misc"):
        before = server.account.status(name).messages
        told = client.pushed(lambda name=name: add(server, name))
        expected = f'* STATUS "{name}" (UIDNEXT {before + 2} MESSAGES {before + 1})\r\n' if name in heard else ""
        assert told == expected.encode()


def test_groups_add_up_but_for_one_without_events(server: Server, folders: Client) -> None:
    client = server.login()
    client.command(f"NOTIFY SET (personal (MessageNew MessageExpunge)) (subtree Lists {ALL}) (mailboxes Lists/c NONE)")
    for name in ("Lists/a", "Lists/c", "misc"):
        add(server, name)
    folders.command("SELECT Lists/a")
    assert b"UNSEEN 0" in client.pushed(lambda: folders.command("STORE 1 +FLAGS (\\Seen)"))
    folders.command("SELECT misc")
    assert client.pushed(lambda: folders.command("STORE 1 +FLAGS (\\Seen)")) == b""
    assert client.pushed(lambda: add(server, "Lists/c")) == b""


def test_delivery_expunge_and_flags_elsewhere(server: Server, folders: Client) -> None:
    client = server.login()
    client.command(f"NOTIFY SET STATUS (mailboxes INBOX {ALL})")
    validity = server.account.status("INBOX").uidvalidity
    assert client.pushed(lambda: server.deliver(MESSAGE)) == (
        b'* STATUS "INBOX" (UIDNEXT 4 MESSAGES 3 UIDVALIDITY %d UNSEEN 3)\r\n' % validity
    )
    folders.command("SELECT INBOX")
    told = client.pushed(lambda: folders.command("STORE 1 +FLAGS (\\Seen \\Deleted)"))
    assert told == b'* STATUS "INBOX" (UIDVALIDITY %d UNSEEN 2)\r\n' % validity
    assert client.pushed(lambda: folders.command("STORE 1 +FLAGS (\\Flagged)")) == b"", "no number is different"
    assert client.pushed(lambda: folders.command("EXPUNGE")) == b'* STATUS "INBOX" (UIDNEXT 4 MESSAGES 2)\r\n'


def test_with_condstore_the_highest_modseq_is_told(server: Server, folders: Client) -> None:
    client = server.login()
    client.command("ENABLE QRESYNC")
    client.command(f"NOTIFY SET STATUS (mailboxes INBOX {ALL}) (mailboxes misc (MessageNew MessageExpunge))")
    folders.command("SELECT INBOX")
    told = client.pushed(lambda: folders.command("STORE 1 +FLAGS (\\Flagged)"))
    numbers = server.account.status("INBOX")
    assert told == b'* STATUS "INBOX" (UIDVALIDITY %d HIGHESTMODSEQ %d)\r\n' % (
        numbers.uidvalidity,
        numbers.highest_modseq,
    )
    told = client.pushed(lambda: add(server, "misc"))
    highest = server.account.status("misc").highest_modseq
    assert told == b'* STATUS "misc" (UIDNEXT 2 MESSAGES 1 HIGHESTMODSEQ %d)\r\n' % highest


def test_notify_alone_does_not_turn_condstore_on(server: Server, folders: Client) -> None:
    client = server.login()
    client.command(f"NOTIFY SET STATUS (personal {ALL})")
    assert "CONDSTORE" not in client.session.enabled


def test_the_selected_mailbox_is_not_told_of_by_its_name(server: Server, client: Client) -> None:
    client.command("NOTIFY SET (personal (MessageNew MessageExpunge))")
    assert client.pushed(lambda: server.deliver(MESSAGE)) == b""
    assert client.command("UNSELECT").startswith(b't OK Unselected\r\n* STATUS "INBOX" (UIDNEXT 4 MESSAGES 3)\r\n')
    client.command("SELECT INBOX")
    assert b"STATUS" not in client.command("UNSELECT"), "all was known"
    assert client.pushed(lambda: server.deliver(MESSAGE)) == b'* STATUS "INBOX" (UIDNEXT 5 MESSAGES 4)\r\n'


def test_while_it_idles_the_same_is_told(server: Server, folders: Client) -> None:
    client = server.login()
    client.command("NOTIFY SET (personal (MessageNew MessageExpunge))")
    client.command("IDLE")
    assert client.pushed(lambda: add(server, "misc")) == b'* STATUS "misc" (UIDNEXT 2 MESSAGES 1)\r\n'
    assert client.say(b"DONE\r\n").endswith(b"OK Idle no longer\r\n")


def test_another_process_is_found_by_looking_and_no_mailbox_is_opened_for_it(server: Server, folders: Client) -> None:
    client = server.login()
    client.command("NOTIFY SET STATUS (personal (MessageNew MessageExpunge MailboxName))")
    elsewhere = Store(server.root, hostname="mail.example.test").account(ALICE)
    opened = elsewhere.open("misc")
    opened.append_many([Addition(Content(MESSAGE))])
    opened.close()
    elsewhere.create("new")
    assert client.pushed(lambda: None) == b""
    told = client.pushed(lambda: server.clock.advance(POLL))
    assert b'* STATUS "misc" (UIDNEXT 2 MESSAGES 1)\r\n' in told
    assert b'* LIST (\\HasNoChildren) "/" "new"\r\n' in told
    assert client.pushed(lambda: server.clock.advance(POLL)) == b""


def test_a_mailbox_in_whose_place_another_one_is(server: Server, folders: Client) -> None:
    client = server.login()
    client.command("NOTIFY SET STATUS (mailboxes misc (MessageNew MessageExpunge))")
    folders.command("DELETE misc")
    told = client.pushed(lambda: (folders.command("CREATE misc"), add(server, "misc")))
    assert told.endswith(b" MESSAGES 1)\r\n")
    assert client.pushed(lambda: add(server, "misc")) == b'* STATUS "misc" (UIDNEXT 3 MESSAGES 2)\r\n'


def test_a_disk_that_fails_is_looked_at_again(
    server: Server, folders: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    client = server.login()
    client.command("NOTIFY SET (mailboxes misc (MessageNew MessageExpunge))")
    with monkeypatch.context() as patched:
        patched.setattr("mailserver.store.account.AccountStore.open", _broken)
        assert client.pushed(lambda: client.session.notices._stir("misc")) == b""  # type: ignore[union-attr]
    assert client.pushed(lambda: server.clock.advance(POLL)).startswith(b'* STATUS "misc"')


def _broken(*_args: object) -> None:
    from mailserver.store import Unavailable

    raise Unavailable("broken")


# names, subscriptions, metadata


@pytest.fixture
def names(server: Server, folders: Client) -> Client:
    client = server.login()
    client.command("NOTIFY SET (personal (MailboxName SubscriptionChange MailboxMetadataChange ServerMetadataChange))")
    return client


def test_a_mailbox_is_made_and_removed(names: Client, folders: Client) -> None:
    assert names.pushed(lambda: folders.command("CREATE new")) == b'* LIST (\\HasNoChildren) "/" "new"\r\n'
    assert names.pushed(lambda: folders.command("CREATE up/down")) == (
        b'* LIST (\\HasNoChildren) "/" "up/down"\r\n* LIST (\\NonExistent \\HasChildren) "/" "up"\r\n'
    )
    assert names.pushed(lambda: folders.command("DELETE new")) == (
        b'* LIST (\\NonExistent \\HasNoChildren) "/" "new"\r\n'
    )
    assert names.pushed(lambda: folders.command("DELETE up/down")) == (
        b'* LIST (\\NonExistent \\HasNoChildren) "/" "up/down"\r\n* LIST (\\NonExistent \\HasNoChildren) "/" "up"\r\n'
    )


def test_a_rename_is_told_once_for_all_that_lies_below(names: Client, folders: Client) -> None:
    told = names.pushed(lambda: folders.command("RENAME Lists Archive"))
    assert told == b'* LIST (\\HasChildren \\Archive) "/" "Archive" ("OLDNAME" ("Lists"))\r\n'


def test_inbox_renamed_is_a_new_mailbox(names: Client, folders: Client) -> None:
    assert names.pushed(lambda: folders.command("RENAME INBOX old")) == b'* LIST (\\HasNoChildren) "/" "old"\r\n'


def test_subscriptions(names: Client, folders: Client) -> None:
    assert names.pushed(lambda: folders.command("SUBSCRIBE misc")) == (
        b'* LIST (\\HasNoChildren \\Subscribed) "/" "misc"\r\n'
    )
    assert names.pushed(lambda: folders.command("SUBSCRIBE none")) == (
        b'* LIST (\\NonExistent \\HasNoChildren \\Subscribed) "/" "none"\r\n'
    )
    assert names.pushed(lambda: folders.command("UNSUBSCRIBE misc")) == b'* LIST (\\HasNoChildren) "/" "misc"\r\n'


def test_metadata(names: Client, folders: Client) -> None:
    assert names.pushed(lambda: folders.command('SETMETADATA misc (/private/comment "x" /shared/comment "y")')) == (
        b'* METADATA "misc" /private/comment /shared/comment\r\n'
    )
    assert names.pushed(lambda: folders.command("SETMETADATA misc (/private/comment NIL)")) == (
        b'* METADATA "misc" /private/comment\r\n'
    )
    assert names.pushed(lambda: folders.command('SETMETADATA misc (/shared/comment "y")')) == b"", "it was so before"
    assert names.pushed(lambda: folders.command('SETMETADATA "" (/private/comment "x")')) == (
        b'* METADATA "" /private/comment\r\n'
    )
    assert names.pushed(lambda: folders.command('SETMETADATA misc (/private/specialuse "\\\\Sent")')) == (
        b'* METADATA "misc" /private/specialuse\r\n'
    )


def test_what_the_client_does_itself_is_not_told(names: Client) -> None:
    for command in (
        "CREATE new",
        "CREATE new/below",
        "RENAME new newer",
        "SUBSCRIBE newer",
        "UNSUBSCRIBE newer",
        "RENAME newer/below up",
        "DELETE newer",
        "RENAME INBOX kept",
        'SETMETADATA misc (/private/comment "x")',
        'SETMETADATA "" (/private/comment "x")',
    ):
        answer = names.command(command)
        assert answer.startswith(b"t OK"), answer
        assert answer.count(b"\r\n") == 1, answer


def test_only_what_was_asked_for_is_told(server: Server, folders: Client) -> None:
    client = server.login()
    client.command("NOTIFY SET (mailboxes Lists (MailboxName)) (subtree misc (SubscriptionChange))")
    assert client.pushed(lambda: folders.command("CREATE misc/x")) == b""
    assert client.pushed(lambda: folders.command("SUBSCRIBE Lists")) == b""
    assert b'"misc/x"' in client.pushed(lambda: folders.command("SUBSCRIBE misc/x"))
    assert client.pushed(lambda: folders.command("CREATE Lists/x")) == (
        b'* LIST (\\HasChildren \\Subscribed) "/" "Lists"\r\n'
    )
    assert b'"OLDNAME" ("Lists")' in client.pushed(lambda: folders.command("RENAME Lists Else"))
    assert client.pushed(lambda: folders.command("SETMETADATA misc (/private/x NIL)")) == b""


def test_a_new_mailbox_is_watched_and_its_name_comes_first(server: Server, folders: Client) -> None:
    client = server.login()
    client.command("NOTIFY SET (personal (MailboxName MessageNew MessageExpunge))")
    client.channel.talking = True
    folders.command("CREATE new")
    add(server, "new")
    client.channel.talking = False
    assert client.command("NOOP") == (
        b't OK Done\r\n* LIST (\\HasNoChildren) "/" "new"\r\n* STATUS "new" (UIDNEXT 2 MESSAGES 1)\r\n'
    )


def test_who_subscribes_hears_from_then_on(server: Server, folders: Client) -> None:
    client = server.login()
    client.command("NOTIFY SET (subscribed (MessageNew MessageExpunge))")
    assert client.pushed(lambda: add(server, "misc")) == b""
    folders.command("SUBSCRIBE misc")
    assert client.pushed(lambda: add(server, "misc")) == b'* STATUS "misc" (UIDNEXT 3 MESSAGES 2)\r\n'
    folders.command("UNSUBSCRIBE misc")
    assert client.pushed(lambda: add(server, "misc")) == b""


def test_names_are_written_with_the_clients_separator(tmp_path: Path) -> None:
    server = Server(tmp_path, policy=IMAP(separator="."))
    client, other = server.login(), server.login()
    client.command("NOTIFY SET (subtree a.b (MailboxName))")
    assert client.pushed(lambda: other.command("CREATE a.b.c")).startswith(b'* LIST (\\HasNoChildren) "." "a.b.c"\r\n')


# bounds


def test_too_many_mailboxes_are_refused_and_what_was_asked_for_stays(
    server: Server, folders: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "MAILBOXES", 3)
    client = server.login()
    client.command("NOTIFY SET (mailboxes (misc Lists/c) (MessageNew MessageExpunge))")
    answer = client.command("NOTIFY SET (personal (MessageNew MessageExpunge))")
    assert answer.startswith(b"t NO [NOTIFICATIONOVERFLOW] ")
    assert b"STATUS" in client.pushed(lambda: add(server, "misc"))
    assert client.command("NOTIFY SET (personal (MailboxName))").startswith(b"t OK"), "this watches none"


def test_mailboxes_that_become_too_many_end_it(
    server: Server, folders: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "MAILBOXES", 6)
    client = server.login(select="INBOX")
    client.command("NOTIFY SET (selected (MessageNew MessageExpunge)) (personal (MessageNew MessageExpunge))")
    told = client.pushed(lambda: folders.command("CREATE more"))
    assert told.startswith(b"* OK [NOTIFICATIONOVERFLOW] ")
    assert client.pushed(lambda: (add(server, "misc"), server.deliver(MESSAGE))) == b""
    assert client.command("NOOP") == b"t OK Done\r\n", "as after NOTIFY NONE"
    client.session.lost()
    assert live_timers(server) == 0


def test_for_who_does_not_read_only_names_gather(server: Server, folders: Client) -> None:
    client = server.login()
    client.command("NOTIFY SET STATUS (personal (MessageNew MessageExpunge))")
    client.channel.talking = True  # as if it waited for the client
    for _ in range(30):
        add(server, "misc")
        add(server, "Lists")
    client.channel.talking = False
    assert client.session.engine.unsent == 0
    assert client.command("NOOP").count(b"* STATUS") == 2


def test_commands_have_their_turn_when_much_is_to_be_told(
    server: Server, folders: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "TURN", 1)
    client = server.login()
    client.command("NOTIFY SET (personal (MessageNew MessageExpunge))")
    client.channel.talking = True
    for name in ("misc", "Lists", "Lists/a"):
        add(server, name)
    client.channel.talking = False
    answer = client.say(b"x NOOP\r\n")
    assert answer.startswith(b"x OK")
    assert answer.count(b"* STATUS") == 3


def test_nothing_is_left_behind(server: Server, folders: Client) -> None:
    surroundings = server.account.surroundings
    client = server.login(select="INBOX")
    for _ in range(3):
        client.command(f"NOTIFY SET (selected {ALL}) (personal (MessageNew MessageExpunge MailboxName))")
    assert len(surroundings._listeners) == 1
    assert len(surroundings._attended) == 6
    assert live_timers(server) == 2
    client.command("NOTIFY NONE")
    assert not surroundings._listeners
    assert not surroundings._attended
    assert live_timers(server) == 0
    client.command(f"NOTIFY SET (selected {ALL}) (personal (MessageNew MessageExpunge MailboxName))")
    client.session.lost()
    assert not surroundings._listeners
    assert not surroundings._attended
    assert live_timers(server) == 0


def test_a_message_that_cannot_be_decoded_is_left_out_and_the_others_are_told(server: Server, client: Client) -> None:
    client.command("NOTIFY SET (selected (MessageNew (UID BINARY.PEEK[1]) MessageExpunge))")
    odd = b"Subject: x\r\nContent-Transfer-Encoding: x-foo\r\n\r\nodd\r\n"
    assert b"odd" not in client.pushed(lambda: server.deliver(odd))
    assert b"plain" in client.pushed(lambda: server.deliver(b"Subject: y\r\n\r\nplain\r\n"))
    assert b"OK" in client.command("NOOP")


def test_what_changed_nothing_is_not_kept(client: Client) -> None:
    client.command("NOTIFY SET (personal (MailboxName SubscriptionChange))")
    for number in range(20):
        client.command(f"UNSUBSCRIBE never{number}")
    kept = client.session.notices._own
    assert len(kept) <= 1, kept


def test_folders_are_told_at_the_next_look_when_the_disk_refused_once(
    server: Server, folders: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders.command("NOTIFY SET (personal (MailboxName MessageNew MessageExpunge))")
    with monkeypatch.context() as patched:
        patched.setattr(type(folders.session.account), "folders", _broken)
        assert b"LIST" not in folders.pushed(lambda: server.account.create("later"))
    assert b"later" in folders.pushed(lambda: server.clock.advance(3 * POLL))
