"""The grammar of NOTIFY (RFC 5465 §8)."""

import pytest

from mailserver.imap.commands import Attribute, Notify, Section, Text
from mailserver.imap.commands.filters import Filter, Scope
from mailserver.imap.commands.notify import GROUP_LIMIT, Group, Happening, notify
from mailserver.imap.syntax import Fault, Reader

PAIR = frozenset({Happening.MESSAGE_NEW, Happening.MESSAGE_EXPUNGE})


def read(text: str) -> Notify:
    reader = Reader(b" " + text.encode())
    command = notify(reader)
    reader.end()
    return command


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("NONE", Notify()),
        ("none", Notify()),
        ("SET (selected NONE)", Notify((Group(Filter(Scope.SELECTED)),))),
        ("SET STATUS (personal NONE)", Notify((Group(Filter(Scope.PERSONAL)),), status=True)),
        (
            "set status (SELECTED-DELAYED (messagenew MESSAGEEXPUNGE FlagChange))",
            Notify((Group(Filter(Scope.SELECTED_DELAYED), events=PAIR | {Happening.FLAG_CHANGE}),), status=True),
        ),
        (
            "SET (selected (MessageNew (uid MODSEQ) MessageExpunge))",
            Notify((Group(Filter(Scope.SELECTED), PAIR, (Attribute.UID, Attribute.MODSEQ)),)),
        ),
        (
            "SET (subtree Lists (MailboxName)) (Subtree-One a (MailboxName))"
            " (mailboxes (inbox {3+}\r\na/b) (MessageNew MessageExpunge))"
            " (inboxes (SubscriptionChange MailboxMetadataChange)) (subscribed (ServerMetadataChange))",
            Notify(
                (
                    Group(Filter(Scope.SUBTREE, frozenset({"Lists"})), frozenset({Happening.MAILBOX_NAME})),
                    Group(Filter(Scope.SUBTREE_ONE, frozenset({"a"})), frozenset({Happening.MAILBOX_NAME})),
                    Group(Filter(Scope.MAILBOXES, frozenset({"INBOX", "a/b"})), PAIR),
                    Group(
                        Filter(Scope.INBOXES),
                        events=frozenset({Happening.SUBSCRIPTION_CHANGE, Happening.MAILBOX_METADATA_CHANGE}),
                    ),
                    Group(Filter(Scope.SUBSCRIBED), events=frozenset({Happening.SERVER_METADATA_CHANGE})),
                )
            ),
        ),
    ],
)
def test_what_a_command_means(text: str, command: Notify) -> None:
    assert read(text) == command


def test_nothing_that_is_fetched_sets_seen() -> None:
    (group,) = read("SET (selected (MessageNew (BODY[TEXT] BODY.PEEK[TEXT]) MessageExpunge))").groups
    assert group.items == (Section(b"BODY[TEXT]", text=Text.TEXT, peek=True),)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SET",
        "SET STATUS",
        "SET NONE",
        "NONE (selected NONE)",
        "SET ()",
        "SET (selected)",
        "SET (selected ())",
        "SET (selected MessageNew MessageExpunge)",
        "SET (nowhere (MailboxName))",
        "SET (mailboxes (MailboxName))",
        "SET (mailboxes () (MailboxName))",
        "SET (selected (MessageNew))",
        "SET (selected (MessageExpunge))",
        "SET (personal (FlagChange))",
        "SET (personal (FlagChange MessageNew))",
        "SET (personal (AnnotationChange))",
        "SET (selected (MailboxName))",
        "SET (selected (MessageNew MessageExpunge ServerMetadataChange))",
        "SET (personal (MessageNew (uid) MessageExpunge))",
        "SET (selected (MessageNew () MessageExpunge))",
        "SET (selected NONE) (selected-delayed NONE)",
        "SET (selected NONE)(personal NONE)",
        "SET (selected NONE) ",
        "SET " + " ".join(["(personal NONE)"] * (GROUP_LIMIT + 1)),
        "SET (subtree (" + " ".join(["x"] * 1001) + ") NONE)",
        "SET " + "(" * 1000,
    ],
)
def test_what_is_malformed(text: str) -> None:
    with pytest.raises(Fault) as caught:
        read(text)
    assert caught.value.status == "BAD"


@pytest.mark.parametrize(
    "text",
    [
        "SET (selected (MessageNew MessageExpunge AnnotationChange))",
        "SET (personal (SomethingElse))",
        "SET (selected (SomethingElse)) (personal (MailboxName))",
    ],
)
def test_events_that_there_are_not_are_refused_and_those_that_there_are_named(text: str) -> None:
    with pytest.raises(Fault) as caught:
        read(text)
    assert caught.value.status == "NO"
    assert caught.value.code == (
        "BADEVENT (MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange MailboxMetadataChange "
        "ServerMetadataChange)"
    )
