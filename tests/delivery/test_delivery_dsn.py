"""Reports: of the form that RFC 3464 gives them, and nothing that a stranger said can change their shape."""

import email
import email.policy
import quopri
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.delivery.dsn import Problem, Subject, delay_report, failure_report, success_report
from mailserver.mail import Action, Address, Body, DeliverBy, EnhancedCode, MailParameters, Reply, Return

ALICE = Address("alice", "example.org")
CAROL = Address("carol", "example.net")
NOW = 1_700_000_000.0
HEAD = b"Subject: hello\r\nMessage-ID: <1@example.org>\r\nFrom: alice@example.org\r\n\r\nbody of the message\r\n"
NO_USER = Reply.of(550, "5.1.1", "No such user")


def failure(reply=NO_USER, *, host="mx.example.net", head=HEAD, original=None, recipient=CAROL, sender=ALICE, when=NOW):
    return failure_report(
        Subject(sender, NOW - 600, head),
        [Problem(recipient, original, reply, host, when)],
        hostname="mail.example.org",
        now=NOW,
    )


def parsed(report):
    raw = b"".join(report.content.chunks())
    return raw, email.message_from_bytes(raw, policy=email.policy.default)


def parts(message):
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    text, status, header = message.get_payload()
    assert text.get_content_type() == "text/plain"
    assert status.get_content_type() == "message/delivery-status"
    assert header.get_content_type() == "text/rfc822-headers"
    return text.get_payload(), status.get_payload(), header.get_payload()


def test_a_failure_report_has_the_form_of_rfc_3464():
    raw, message = parsed(failure(original=Address("info", "example.org")))
    assert not message.defects
    text, (per_message, per_recipient), header = parts(message)
    assert message["To"] == "alice@example.org"
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["In-Reply-To"] == "<1@example.org>"
    assert per_message["Reporting-MTA"] == "dns; mail.example.org"
    assert per_message["Arrival-Date"] == "Tue, 14 Nov 2023 22:03:20 +0000"
    assert dict(per_recipient) == {
        "Original-Recipient": "rfc822; info@example.org",
        "Final-Recipient": "rfc822; carol@example.net",
        "Action": "failed",
        "Status": "5.1.1",
        "Remote-MTA": "dns; mx.example.net",
        "Diagnostic-Code": "smtp; 550 5.1.1 No such user",
        "Last-Attempt-Date": "Tue, 14 Nov 2023 22:13:20 +0000",
    }
    assert "carol@example.net" in text
    assert "This address does not exist" in text
    assert "The server mx.example.net answered:" in text
    assert "550 5.1.1 No such user" in text
    assert header.replace("\r\n", "\n") == "Subject: hello\nMessage-ID: <1@example.org>\nFrom: alice@example.org\n"
    assert b"body of the message" not in raw


def test_a_report_goes_out_with_the_null_reverse_path_in_seven_bits():
    report = failure(Reply(550, "größer 日本 \x80"), head="Subject: grüße\r\n\r\n".encode())
    assert report.envelope.sender is None
    assert report.envelope.parameters.body is Body.SEVEN_BIT
    assert [recipient.address for recipient in report.envelope.recipients] == [ALICE]
    assert report.header == b""
    assert b"".join(report.content.chunks()).isascii()


def test_a_message_whose_time_ran_out_is_reported_as_expired():
    _, message = parsed(failure(Reply.of(451, "4.3.0", "Busy"), when=NOW - 600 + 5 * 86400))
    text, (_, per_recipient), _ = parts(message)
    assert (per_recipient["Action"], per_recipient["Status"]) == ("failed", "4.4.7")
    assert "tried for 5 days" in text
    assert "451 4.3.0 Busy" in text


def test_a_failure_found_here_is_not_put_into_a_remotes_mouth():
    _, message = parsed(failure(Reply.of(550, "5.1.2", "The domain does not exist"), host=None))
    text, (_, per_recipient), _ = parts(message)
    assert "Remote-MTA" not in per_recipient
    assert per_recipient["Diagnostic-Code"] == "x-mailserver; 550 5.1.2 The domain does not exist"
    assert "answered" not in text


def test_a_delay_report_says_until_when_it_is_tried():
    subject = Subject(ALICE, NOW - 600, HEAD)
    problem = Problem(CAROL, None, Reply.of(451, "4.4.1", "No connection"), None, NOW)
    _, message = parsed(delay_report(subject, [problem], hostname="mail.example.org", now=NOW, until=NOW + 86400))
    text, (_, per_recipient), _ = parts(message)
    assert (per_recipient["Action"], per_recipient["Status"]) == ("delayed", "4.4.1")
    assert per_recipient["Will-Retry-Until"] == "Wed, 15 Nov 2023 22:13:20 +0000"
    assert "need not send it again" in text
    assert "does not answer" in text


def test_several_recipients_are_told_of_in_one_report():
    problems = [Problem(Address(f"u{n}", "example.net"), None, NO_USER, "mx", NOW) for n in range(50)]
    report = failure_report(Subject(ALICE, NOW, HEAD), problems, hostname="mail.example.org", now=NOW)
    _, message = parsed(report)
    _, statuses, _ = parts(message)
    assert [status["Final-Recipient"] for status in statuses[1:]] == [f"rfc822; u{n}@example.net" for n in range(50)]


@pytest.mark.parametrize("code", ["5.1.1", "5.2.2", "5.3.4", "5.7.1", "5.7.26", "5.1.10", "5.4.6"])
def test_the_common_failures_are_explained_in_plain_words(code):
    _, message = parsed(failure(Reply.of(550, code, "xyzzy")))
    text, _, _ = parts(message)
    before = text[: text.index("The server mx.example.net answered")]
    assert before.rstrip().endswith((".", "spam."))
    assert "xyzzy" not in before


INJECTIONS = [
    "ok\r\n\r\nFrom: attacker\r\n",
    "ok\nAction: delivered\nStatus: 2.0.0",
    "ok\r\nBcc: victim@example.com",
    "--report-",
    "\r\n.\r\nMAIL FROM:<>",
    "\x00\x1b[31m\x7f\x85\u2028\u2029",
    "x" * 100_000,
    "\n" * 5_000,
    "a\n" * 5_000,
]


@pytest.mark.parametrize("words", INJECTIONS)
def test_a_remotes_words_cannot_inject_into_the_report(words):
    raw, message = parsed(failure(Reply.of(550, "5.7.1", words)))
    _, statuses, _ = parts(message)
    assert len(statuses) == 2
    assert statuses[1].get_all("Action") == ["failed"]
    assert set(message.keys()) == {
        *("From", "To", "Subject", "Date", "Message-ID", "In-Reply-To", "References"),
        *("Auto-Submitted", "MIME-Version", "Content-Type"),
    }
    assert len(raw) < 10_000
    assert max(map(len, raw.split(b"\r\n"))) <= 998


hostile = st.text(st.characters(codec="utf-8"), max_size=300) | st.sampled_from(INJECTIONS)


@given(
    hostile,
    hostile.filter(bool),
    st.binary(max_size=300),
    st.builds(
        Address,
        st.text(st.characters(min_codepoint=32, max_codepoint=0x2FFF), min_size=1, max_size=40),
        st.just("x.example"),
    ),
)
def test_whatever_strangers_say_the_report_stays_a_report(words, host, head, address):
    raw, message = parsed(failure(Reply(550, words, EnhancedCode(5, 0, 0)), host=host, head=head, recipient=address))
    text, status, returned = message.get_payload()
    assert text.get_payload(decode=True).startswith(b"This is the mail server mail.example.org.\r\n")
    assert returned.get_content_type() in ("text/rfc822-headers", "message/global-headers")
    statuses = fields_of(status)
    assert len(statuses) == 2
    assert statuses[1].get_all("Status") == ["5.0.0"]
    assert raw.isascii()
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n|\x00", raw)
    assert max(map(len, raw.split(b"\r\n"))) <= 998


def decoded(part):
    """The octets of a part; Python's parser takes those of the types of RFC 6533 for messages, encoded or not."""
    raw = part.as_bytes().partition(b"\n\n")[2] if not part.is_multipart() else part.get_payload()[0].as_bytes()
    return quopri.decodestring(raw) if part["Content-Transfer-Encoding"] == "quoted-printable" else raw


def fields_of(status):
    if status.get_content_type() == "message/delivery-status":
        return status.get_payload()
    assert status.get_content_type() == "message/global-delivery-status"
    groups = decoded(status).replace(b"\r\n", b"\n").strip(b"\n").split(b"\n\n")
    return [email.message_from_bytes(group, policy=email.policy.SMTPUTF8) for group in groups]


USER = Address("用户", "例子.example")
UTF8_HEAD = "Subject: Grüße\r\nTo: 用户@例子.example\r\n\r\n".encode()


@pytest.mark.parametrize("sender", [ALICE, Address("ärzte", "example.org")])
def test_a_report_on_international_mail_has_the_types_of_rfc_6533(sender):
    parameters = MailParameters(smtputf8=True)
    orcpt = r"utf-8;\x{7528}户\x{2B}a@例子.example"
    problem = Problem(USER, None, Reply.of(550, "5.1.1", "没有这个用户"), "mx.example", NOW, orcpt)
    subject = Subject(sender, NOW - 600, UTF8_HEAD, 0, parameters)
    report = failure_report(subject, [problem], hostname="mail.example.org", now=NOW)
    raw, message = parsed(report)
    international = sender is not ALICE
    assert raw.isascii() is not international, "encoded, unless the sender's server takes UTF-8 anyway"
    assert report.envelope.parameters.smtputf8 is international
    text, status, returned = message.get_payload()
    assert text.get_content_charset() == "utf-8"
    assert f"  {USER}\r\n" in text.get_payload(decode=True).decode()
    fields = fields_of(status)[1]
    assert fields["Final-Recipient"] == f"utf-8; {USER}"
    assert fields["Original-Recipient"] == "utf-8;用户+a@例子.example"
    assert fields["Diagnostic-Code"] == "smtp; 550 5.1.1 没有这个用户"
    assert returned.get_content_type() == "message/global-headers"
    assert "Subject: Grüße" in decoded(returned).decode()


def test_an_international_message_comes_back_whole_where_that_is_asked_for():
    message = UTF8_HEAD + "Schöne Grüße\r\n".encode()
    subject = Subject(ALICE, NOW, message, len(message), MailParameters(smtputf8=True, ret=Return.FULL))
    report = failure_report(subject, [Problem(USER, None, NO_USER, "mx", NOW)], hostname="mail.example.org", now=NOW)
    raw, parsed_report = parsed(report)
    returned = parsed_report.get_payload()[2]
    assert raw.isascii()
    assert returned.get_content_type() == "message/global"
    assert "Schöne Grüße" in decoded(returned).decode()


def test_a_sender_whose_domain_alone_is_international_has_it_in_ascii():
    report = failure(sender=Address("alice", "bücher.example"))
    raw, message = parsed(report)
    assert raw.isascii()
    assert message["To"] == "alice@xn--bcher-kva.example"
    assert [str(r.address) for r in report.envelope.recipients] == ["alice@xn--bcher-kva.example"]


def test_a_senders_address_cannot_inject_either():
    _, message = parsed(failure(sender=Address("a\r\nBcc: victim@example.com\r\n", "example.org")))
    assert "Bcc" not in message


def test_the_returned_header_is_bounded():
    head = b"".join(b"X-%d: %s\r\n" % (n, b"y" * 60) for n in range(10_000)) + b"\r\n"
    raw, message = parsed(failure(head=head))
    assert len(raw) < 40_000
    parts(message)


@pytest.mark.parametrize(
    "id", [b"no brackets", b"<a b@c>", b"<a>\r\n <b>", b"<" + b"x" * 300 + b">", b"", b"<a\x00b@c>"]
)
def test_an_odd_message_id_is_not_referred_to(id):
    _, message = parsed(failure(head=b"Message-ID: " + id + b"\r\n\r\n"))
    assert "In-Reply-To" not in message


def parts_of(report):
    message = email.message_from_bytes(b"".join(report.content.chunks()))
    words, status, returned = message.get_payload()
    return message["Subject"], words.get_payload(), status.get_payload(), returned


MESSAGE = b"Subject: hello\r\n\r\nthe body\r\n"
WANTED = Subject(ALICE, NOW - 60, MESSAGE, len(MESSAGE), MailParameters(ret=Return.FULL, envid="QQ314159"))


def asking(**parameters: Any) -> Subject:
    """`WANTED`, whose sender asked for something else besides."""
    return replace(WANTED, parameters=replace(WANTED.parameters, **parameters))


@pytest.mark.parametrize(
    ("action", "title", "word"),
    [
        (Action.DELIVERED, "Your message was delivered", "was delivered to:"),
        (Action.RELAYED, "Your message was handed on", "That server may not tell"),
    ],
)
def test_a_report_of_success(action, title, word):
    done = Problem(CAROL, None, Reply.of(250, "2.0.0", "Taken"), None, NOW, "rfc822;carol@old.example")
    report = success_report(WANTED, action, [done], hostname="mail.example.org", now=NOW)
    subject, words, (message_fields, fields), returned = parts_of(report)
    assert subject == title
    assert word in words and str(CAROL) in words
    assert message_fields["Original-Envelope-Id"] == "QQ314159"
    assert (fields["Action"], fields["Status"]) == (str(action), "2.0.0")
    assert fields["Original-Recipient"] == "rfc822;carol@old.example"
    assert returned.get_content_type() == "text/rfc822-headers", "only what failed comes back whole"
    assert report.envelope.sender is None


def test_the_whole_message_comes_back_where_that_is_asked_for():
    problem = Problem(CAROL, None, NO_USER, "mx", NOW)
    _, words, _, returned = parts_of(failure_report(WANTED, [problem], hostname="mail.example.org", now=NOW))
    assert "The message is attached." in words
    assert returned.get_content_type() == "message/rfc822"
    assert returned.get_payload()[0].get_payload() == "the body\r\n"


@pytest.mark.parametrize(
    "subject",
    [
        asking(ret=Return.HEADERS),
        asking(ret=None),
        replace(WANTED, size=10**6),
        replace(WANTED, size=0),
        replace(WANTED, head=WANTED.head + "Grüße".encode()),
        replace(WANTED, head=WANTED.head + b"x\n", size=WANTED.size + 2),
        replace(WANTED, head=WANTED.head + b"x\r", size=WANTED.size + 2),
        replace(WANTED, head=WANTED.head + b"x\0", size=WANTED.size + 2),
        replace(WANTED, head=WANTED.head + b"x" * 999, size=WANTED.size + 999),
        asking(requiretls=True),
    ],
)
def test_the_header_alone_comes_back_otherwise(subject):
    problem = Problem(CAROL, None, NO_USER, "mx", NOW)
    _, _, _, returned = parts_of(failure_report(subject, [problem], hostname="mail.example.org", now=NOW))
    assert returned.get_content_type() == "text/rfc822-headers"
    assert "the body" not in returned.get_payload()


def test_hostile_identifiers_stay_in_their_field():
    subject = asking(envid="x\r\nAction: failed\r\n\r\n", ret=None)
    problem = Problem(CAROL, None, NO_USER, None, NOW, "rfc822;\r\nAction: delivered")
    report = failure_report(subject, [problem], hostname="mail.example.org", now=NOW)
    _, _, (message_fields, fields), _ = parts_of(report)
    assert message_fields.get_all("Action") is None
    assert fields.get_all("Action") == ["failed"]


def report_of(kind, parameters, **more):
    problem = Problem(CAROL, None, Reply.of(451, "4.7.1", "Later"), "mx.example.net", NOW)
    report = kind(asking(**parameters), [problem], hostname="mail.example.org", now=NOW, **more)
    _, words, (message_fields, fields), _ = parts_of(report)
    return words, message_fields, fields, report


def test_a_report_tells_by_when_the_message_was_to_arrive():
    words, message_fields, fields, _ = report_of(failure_report, {"deliver_by": DeliverBy(NOW - 1, returned=True)})
    assert message_fields["Deliver-By-Date"] == "Tue, 14 Nov 2023 22:13:19 +0000"
    assert fields["Status"] == "5.4.7"
    assert "You wanted it back unless it arrives by Tue, 14 Nov 2023 22:13:19 +0000." in words
    words, message_fields, fields, _ = report_of(
        delay_report, {"deliver_by": DeliverBy(NOW - 1, returned=False)}, until=NOW + 99
    )
    assert (fields["Action"], fields["Status"]) == ("delayed", "4.4.7")
    assert "You wanted to be told unless it arrives by Tue, 14 Nov 2023 22:13:19 +0000." in words


def test_a_time_that_is_not_over_changes_no_status():
    words, message_fields, fields, _ = report_of(failure_report, {"deliver_by": DeliverBy(NOW + 1, returned=True)})
    assert message_fields["Deliver-By-Date"] == "Tue, 14 Nov 2023 22:13:21 +0000"
    assert fields["Status"] == "4.4.7" and "You wanted" not in words


def test_a_report_tells_how_long_the_message_was_to_be_held():
    _, message_fields, _, _ = report_of(failure_report, {"hold": "until;2023-11-14T22:00:00Z", "release": NOW - 800})
    assert message_fields["Future-Release-Request"] == "until;2023-11-14T22:00:00Z"
    assert message_fields["Arrival-Date"]


def test_a_report_has_the_priority_of_its_message_and_asks_for_nothing_else():
    _, _, _, report = report_of(failure_report, {"priority": -3, "deliver_by": DeliverBy(NOW, returned=True)})
    assert report.envelope.parameters == MailParameters(priority=-3)
