"""What well-behaved clients and servers say, turn by turn: the seeds of mutation. And the words that may hurt.

A turn is what a client sends before it waits; after STARTTLS it always waits.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Dialogue:
    """`tls`: the connection is encrypted from its start."""

    turns: Sequence[bytes]
    tls: bool = True


PLAIN = b64encode(b"\0alice@example.org\0secret")
USER, SECRET = b64encode(b"alice@example.org"), b64encode(b"secret")

MESSAGE = (
    b'From: =?utf-8?q?J=C3=B6?= <jo@example.net>\r\nTo: alice@example.org, "B, ob" <bob@example.org>\r\n'
    b"Subject: Hello\r\n there\r\nDate: Mon, 24 Nov 2025 01:44:57 +0000\r\nMessage-ID: <1@example.net>\r\n"
    b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b 1"\r\n\r\npreamble\r\n--b 1\r\n'
    b"Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    b"Gr=FC=DFe\r\n.\r\n..dots\r\n--b 1\r\nContent-Type: message/rfc822\r\nContent-Disposition: attachment;\r\n"
    b' filename*0="a"; filename*1=b.eml\r\n\r\nSubject: inner\r\n\r\nbody\r\n--b 1--\r\nepilogue\r\n'
)
STUFFED = MESSAGE.replace(b"\r\n.", b"\r\n..")

# SMTP

EHLO = b"EHLO client.example.net\r\n"
ENVELOPE = b"MAIL FROM:<jo@example.net>\r\nRCPT TO:<alice@example.org>\r\n"

SMTP = (
    Dialogue((EHLO, ENVELOPE, b"DATA\r\n", STUFFED, b".\r\n", b"QUIT\r\n")),
    Dialogue((EHLO + ENVELOPE + b"RCPT TO:<bob@example.org>\r\nDATA\r\n" + STUFFED + b".\r\n" + ENVELOPE, b"RSET\r\n")),
    Dialogue(
        (b"HELO [192.0.2.1]\r\n", ENVELOPE, b"DATA\r\n", b"hi\r\n.\r\n", b"NOOP\r\n", b"VRFY bob\r\n", b"HELP\r\n")
    ),
    Dialogue((EHLO, b"STARTTLS\r\n", EHLO, ENVELOPE, b"DATA\r\n", b".\r\n", b"QUIT\r\n"), tls=False),
    Dialogue(
        (EHLO, b"MAIL FROM:<> SIZE=1000 BODY=8BITMIME\r\n", b"RCPT TO:<Alice+x@Example.ORG>\r\n", b"DATA\r\n\r\n.\r\n")
    ),
    Dialogue(
        (
            EHLO,
            b"MAIL FROM:<x@example.net> BODY=BINARYMIME SMTPUTF8 PRDR\r\nRCPT TO:<alice@example.org>\r\n",
            b"BDAT 9\r\nSubject: BDAT 5\r\nx\r\n\0\r",
            b"BDAT 0 LAST\r\n",
            b"QUIT\r\n",
        )
    ),
    Dialogue(
        (EHLO, b"EXPN list\r\n", b"BDAT 5 LAST\r\n", b"NOOP\r", b"ETRN x\r\n", b"RCPT TO:<@a,@b:c@d>\r\n", b"DATA\r\n")
    ),
    Dialogue(
        (EHLO, b'MAIL FROM:<"a\\"b c"@[IPv6:2001:db8::1]>\r\n', b"RCPT TO:<postmaster>\r\nRCPT TO:<x@example.net>\r\n")
    ),
)
SUBMISSION = (
    Dialogue(
        (
            EHLO,
            b"AUTH PLAIN " + PLAIN + b"\r\n",
            b"MAIL FROM:<alice@example.org>\r\n",
            b"RCPT TO:<bob@example.org>\r\nRCPT TO:<x@example.com>\r\n",
            b"DATA\r\n",
            STUFFED.replace(b"jo@example.net", b"alice@example.org"),
            b".\r\n",
            b"QUIT\r\n",
        )
    ),
    Dialogue(
        (
            EHLO,
            b"AUTH LOGIN\r\n",
            USER + b"\r\n",
            SECRET + b"\r\n",
            b"MAIL FROM:<alice@example.org>\r\n",
            b"RCPT TO:<x@[192.0.2.9]>\r\n",
            b"DATA\r\nSubject: x\r\n\r\n.\r\n",
        )
    ),
    Dialogue(
        (EHLO, b"STARTTLS\r\n", EHLO, b"AUTH PLAIN\r\n", PLAIN + b"\r\n", b"MAIL FROM:<alice@example.org>\r\n"),
        tls=False,
    ),
    Dialogue((EHLO, b"AUTH LOGIN " + USER + b"\r\n", b"*\r\n", b"AUTH PLAIN =\r\n", b"AUTH CRAM-MD5\r\n", ENVELOPE)),
)
SMTP_WORDS = (
    b"EHLO", b"HELO", b"MAIL FROM:<", b"RCPT TO:<", b"DATA\r\n", b"RSET\r\n", b"STARTTLS\r\n", b"AUTH PLAIN", b"=",
    b"*\r\n", b"BDAT 10\r\n", b"QUIT\r\n", b"SIZE=", b"BODY=8BITMIME", b"SMTPUTF8", b"<>", b"<", b">", b"@", b'"',
    b"\\", b"%", b"!", b"..", b"\r\n..\r\n", b"\r\n.\r", b".\r\n", b"GET / HTTP/1.1\r\n", b"XCLIENT", b"+", b"/../",
    b"BDAT 0 LAST\r\n", b"BODY=BINARYMIME", b"PRDR", b"\xc3\xbc",
    b"|", b":include:", b"[127.0.0.1]", b"Received: x\r\n", b"A" * 3000, b"A" * 13000, b" ", b"\t",
)  # fmt: skip

# POP3

POP3 = (
    Dialogue(
        (
            b"CAPA\r\n",
            b"USER alice@example.org\r\n",
            b"PASS secret\r\n",
            b"STAT\r\n",
            b"LIST\r\n",
            b"UIDL\r\n",
            b"LIST 1\r\n",
            b"UIDL 2\r\n",
            b"RETR 1\r\n",
            b"TOP 2 1\r\n",
            b"DELE 1\r\n",
            b"RSET\r\n",
            b"NOOP\r\n",
            b"DELE 2\r\n",
            b"QUIT\r\n",
        )
    ),
    Dialogue(
        (b"AUTH\r\n", b"UTF8\r\n", b"LANG\r\n", b"LANG *\r\n", b"LANG de-AT\r\n", b"STLS\r\n", b"LAST\r\n"), tls=False
    ),
    Dialogue((b"USER alice@example.org\r\nPASS secret\r\nSTAT\r\nRETR 3\r\nTOP 3 0\r\nDELE 3\r\nLIST\r\nQUIT\r\n",)),
    Dialogue(
        (b"AUTH PLAIN\r\n", PLAIN + b"\r\n", b"TOP 1 99\r\n", b"RETR 9\r\n", b"DELE 1\r\nDELE 1\r\n", b"UIDL\r\n")
    ),
    Dialogue((b"AUTH PLAIN " + PLAIN + b"\r\n", b"RETR 1\r\nRETR 2\r\nRETR 3\r\n", b"CAPA\r\n", b"QUIT\r\n")),
    Dialogue((b"CAPA\r\n", b"STLS\r\n", b"AUTH LOGIN\r\n", USER + b"\r\n", SECRET + b"\r\n", b"LIST\r\n"), tls=False),
    Dialogue(
        (b"AUTH LOGIN\r\n", b"*\r\n", b"PASS x\r\n", b"USER a b\r\n", b"PASS c d\r\n", b"APOP a b\r\n", b"STLS\r\n")
    ),
)
POP3_WORDS = (
    b"USER", b"PASS", b"RETR 1\r\n", b"TOP 1 0\r\n", b"TOP 3 1\r\n", b"LIST", b"UIDL", b"DELE 2\r\n", b"QUIT\r\n",
    b"STLS\r\n", b"AUTH PLAIN", b"=", b"*\r\n", b"RSET\r\n", b"A" * 300, b"A" * 3000, b"A" * 13000, b" ", b"+",
    b"CAPA\r\n", b"UTF8\r\n", b"LANG\r\n", b"LANG x-", b"AUTH\r\n", b"RETR 1\r\nRETR 2\r\nRETR 3\r\n",
)  # fmt: skip

# IMAP


def _imap(*lines: bytes, tls: bool = True) -> Dialogue:
    """Each command with a tag."""
    return Dialogue([b"a%d %b\r\n" % (number, line) for number, line in enumerate(lines)], tls)


_LOGIN = b"LOGIN alice@example.org secret"
_SIZE = b"%d" % len(MESSAGE)

IMAP = (
    _imap(
        b"CAPABILITY",
        _LOGIN,
        b'ID ("name" "x" "version" NIL)',
        b'LIST "" "*"',
        b'LSUB "" "%"',
        b"NAMESPACE",
        b"STATUS INBOX (MESSAGES RECENT UIDNEXT UIDVALIDITY UNSEEN SIZE)",
        b"SELECT INBOX",
        b"FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODY BODYSTRUCTURE)",
        b"LOGOUT",
    ),
    _imap(
        _LOGIN,
        b"SELECT INBOX",
        b"UID FETCH 1:* BODY[]",
        b"FETCH 1 (BODY.PEEK[1] BODY[2.HEADER]<0.10> BODY[2.1.MIME])",
        b"FETCH 1:* (BINARY.PEEK[1] BINARY.SIZE[2] BINARY[2.1]<1.9> PREVIEW (LAZY) SAVEDATE)",
        b"FETCH 2,3 (BODY.PEEK[HEADER.FIELDS (From {4}\r\nDate)] BODY[HEADER.FIELDS.NOT (To)] RFC822.TEXT FLAGS)",
        b"STORE 1 +FLAGS (\\Seen $Work)",
        b"UID STORE 1:2 FLAGS.SILENT (\\Deleted)",
        b"EXPUNGE",
        b"CLOSE",
    ),
    _imap(
        _LOGIN,
        b"SELECT INBOX",
        b"SEARCH ALL",
        b"UID SEARCH CHARSET UTF-8 OR SUBJECT {3}\r\nabc NOT (BODY hello 1:*)",
        b"SEARCH SINCE 1-Jan-2020 SENTBEFORE 1-Jan-2030 LARGER 10 SMALLER 100000 HEADER Subject x UNKEYWORD $a",
        b"SEARCH TEXT Gr TO alice CC b BCC c FROM jo DELETED RECENT NEW OLD ON 2-Feb-2024 UID 1:4",
        b"CHECK",
        b"UNSELECT",
    ),
    _imap(
        b"LOGIN {17+}\r\nalice@example.org {6}\r\nsecret",
        b"CREATE Work/2024",
        b'CREATE "&AOQ-"',
        b'APPEND Work/2024 (\\Seen \\Draft) " 4-Feb-2024 10:00:00 +0100" {' + _SIZE + b"+}\r\n" + MESSAGE,
        b"APPEND INBOX {" + _SIZE + b"}\r\n" + MESSAGE,
        b"APPEND INBOX {" + _SIZE + b"+}\r\n" + MESSAGE + b" (\\Seen) {" + _SIZE + b"}\r\n" + MESSAGE,
        b'APPEND INBOX CATENATE (URL "/INBOX/;UID=1/;SECTION=HEADER" TEXT {' + _SIZE + b"+}\r\n" + MESSAGE + b" URL x)",
        b"APPEND INBOX CATENATE (URL /Work%2F2024;UIDVALIDITY=1/;UID=1/;PARTIAL=0.9 TEXT {3}\r\na\r\n)",
        b"SELECT Work/2024",
        b"APPEND INBOX CATENATE (URL {6}\r\n;UID=1 TEXT {3+}\r\na\r\n) (\\Seen) CATENATE (URL ;uid=1/;section=text)",
        b"COPY 1 INBOX",
        b"REPLACE 1 Work/2024 (\\Draft) {" + _SIZE + b"}\r\n" + MESSAGE,
        b"UID MOVE 1 INBOX",
        b"RENAME Work/2024 Old",
        b"DELETE Old",
        b"SUBSCRIBE INBOX",
        b"UNSUBSCRIBE INBOX",
        b"RENAME INBOX Archive",
    ),
    _imap(
        _LOGIN,
        b"SUBSCRIBE a/b",
        b'LIST (SUBSCRIBED RECURSIVEMATCH) "" ("%" a/* "") RETURN (CHILDREN STATUS (MESSAGES DELETED-STORAGE))',
        b"STATUS INBOX (MAILBOXID APPENDLIMIT DELETED)",
        b"GETQUOTAROOT INBOX",
        b"GETQUOTA account",
        b"SETQUOTA account (STORAGE 10)",
        b"SETMETADATA INBOX (/private/comment {3+}\r\na\r\n /shared/x/y ~{3+}\r\n\0a\xff)",
        b"GETMETADATA INBOX (DEPTH infinity MAXSIZE 100) (/private /shared/x)",
        b'GETMETADATA "" /shared/admin',
        b"RESETKEY INBOX INTERNAL",
        b'GENURLAUTH "imap://alice%40example.org@mx.example.org/INBOX/;UID=1;URLAUTH=user+a" INTERNAL',
        b'URLFETCH {6}\r\n/x]\r\n( "imap://alice%40example.org@example.org/INBOX/;UID=1;URLAUTH=anonymous:internal:00"',
        b'URLFETCH ("imap://alice%40example.org@mx.example.org/INBOX/;UID=1;URLAUTH=authuser" BINARY) x',
        b"RESETKEY",
        b"SELECT INBOX",
        b"FETCH 1:* (EMAILID THREADID)",
        b"SEARCH OR EMAILID M1 NOT THREADID T1",
    ),
    _imap(
        _LOGIN,
        b"ENABLE IMAP4rev2",
        b'COMPARATOR "i;*" default',
        'CREATE "a\u0308/\u53f0 & \u5317"'.encode(),
        'LIST "" "*\u5317"'.encode(),
        "SELECT {13+}\r\na\u0308/\u53f0 & \u5317".encode(),
        'APPEND "\u00e4/\u53f0 & \u5317" {'.encode() + _SIZE + b"+}\r\n" + MESSAGE,
        b"APPEND INBOX UTF8 (~{" + _SIZE + b"+}\r\n" + MESSAGE + b") UTF8 (~{3}\r\na:b)",
        b"APPEND INBOX CATENATE (UTF8 (~{3+}\r\na:b) TEXT {1+}\r\nc)",
        b"SEARCH LARGER 5000000000",
        b"UID SEARCH RETURN () ALL",
        b"STORE 1 +FLAGS ($Junk)",
        'RENAME "\u00e4" "\u00fc"'.encode(),
        b"UNAUTHENTICATE",
        _LOGIN,
        b'LIST "" *',
        b"LOGOUT",
    ),
    _imap(
        _LOGIN,
        b"CREATE a/b",
        b"SELECT INBOX",
        b"NOTIFY SET STATUS"
        b" (selected-delayed (MessageNew (UID BODY.PEEK[HEADER.FIELDS (To)]) MessageExpunge FlagChange))"
        b" (subtree (a b) (MailboxName SubscriptionChange MessageNew MessageExpunge)) (mailboxes INBOX NONE)",
        b"SUBSCRIBE a/b",
        b"APPEND INBOX {" + _SIZE + b"+}\r\n" + MESSAGE,
        b"COPY 1 a/b",
        b"IDLE\r\nDONE",
        b"UNSELECT",
        b"RENAME a/b a/c",
        b"NOTIFY NONE",
        b"SELECT INBOX",
        b'CANCELUPDATE "B01" "x"',
    ),
    _imap(
        _LOGIN,
        b"ENABLE UIDONLY QRESYNC",
        b"SELECT INBOX (QRESYNC (1 1 1:9 (1 1)))",
        b"SELECT INBOX",
        b"UID FETCH 1:* (FLAGS BODY.PEEK[]<0.9>) (CHANGEDSINCE 1 VANISHED)",
        b"UID STORE 1:2 +FLAGS (\\Deleted)",
        b"UID SEARCH RETURN (SAVE ALL) UID 1:*",
        b"UID SEARCH 1:2",
        b"UIDBATCHES 500 1:2",
        b"UID SORT RETURN (RELEVANCY ALL) (RELEVANCY DATE) UTF-8 FUZZY (OR SUBJECT helo NOT BODY {5}\r\nworld)",
        b"ESEARCH IN (selected subtree-one (Work {5}\r\nINBOX) mailboxes x) RETURN (MIN COUNT) SUBJECT hello",
        b"UID REPLACE 1 INBOX {" + _SIZE + b"}\r\n" + MESSAGE,
        b"EXPUNGE",
    ),
    _imap(
        _LOGIN,
        b"ENABLE CONDSTORE QRESYNC X-NONE",
        b"SELECT INBOX (QRESYNC (1 1 1:9 (1:2 1:2)))",
        b"SEARCH RETURN (MIN MAX COUNT ALL SAVE) MODSEQ 1 OR OLDER 5 YOUNGER 5",
        b"UID FETCH $ (FLAGS MODSEQ) (CHANGEDSINCE 1 VANISHED)",
        b"SORT RETURN (PARTIAL 1:2) (REVERSE ARRIVAL DISPLAYFROM) {5}\r\nUTF-8 HEADER Subject {1+}\r\nt",
        b"UID SORT (SUBJECT) US-ASCII ALL",
        b"THREAD REFERENCES UTF-8 ALL",
        b"UID THREAD ORDEREDSUBJECT UTF-8 TEXT x",
        b"STORE 1:2 (UNCHANGEDSINCE 12) +FLAGS (\\Deleted)",
        b"UID COPY 1:* INBOX",
        b"MOVE 1 INBOX",
        b"UID REPLACE 2 INBOX {" + _SIZE + b"}\r\n" + MESSAGE,
        b"UID EXPUNGE 1:2,$",
        b"EXAMINE {5}\r\nINBOX (CONDSTORE)",
        b"UID SEARCH SAVEDSINCE 1-Jan-2020 SAVEDATESUPPORTED",
        b"COMPRESS DEFLATE",
    ),
    Dialogue(
        (
            b"a AUTHENTICATE PLAIN\r\n",
            PLAIN + b"\r\n",
            b"b SELECT INBOX\r\n",
            b"c IDLE\r\n",
            b"DONE\r\n",
            b"d NOOP\r\n",
            b"e IDLE\r\nDONE\r\nf UID EXPUNGE 1:*\r\ng EXAMINE INBOX\r\nh STORE 1 FLAGS (\\Seen)\r\ni LOGOUT\r\n",
        )
    ),
    Dialogue(
        (
            b"a CAPABILITY\r\n",
            b"b STARTTLS\r\n",
            b"c AUTHENTICATE LOGIN\r\n",
            USER + b"\r\n",
            SECRET + b"\r\n",
            b"d EXAMINE INBOX\r\n",
            b"e FETCH 1:* ALL\r\n",
            b"f FETCH * FULL\r\n",
        ),
        tls=False,
    ),
    Dialogue(
        (
            b"a AUTHENTICATE PLAIN " + PLAIN + b"\r\n",
            b"b SELECT {5}\r\nINBOX\r\n",
            b"c LOGIN {99999+}\r\nx\r\n",
            b"d FOO\r\n",
            b'e LIST "" (\r\n',
            b'f LIST {4}\r\nWork ""\r\n',
            b"g SELECT None\r\n",
            b"h FETCH 1 FLAGS\r\n",
        )
    ),
)
IMAP_WORDS = (
    b"{0}\r\n", b"{0+}\r\n", b"{3}\r\n", b"{3+}\r\nabc", b"{4294967295}\r\n", b"{4294967295+}\r\n", b"{}\r\n",
    b"{-1}\r\n", b"{99999999999999999999}\r\n", b"{70000+}\r\n", b"(", b")", b"((((((((", b"[", b"]",
    b"<0.4294967295>", b"<4294967295.1>", b"*", b"1:*", b"*:4294967295", b"1,2,3:1", b"\\Seen", b"\\Recent", b"\\*",
    b'"', b'\\"', b"%", b"NIL", b"&", b"&AAA-", b"../", b"/", b"//", b".", b"..", b"~", b"#", b"INBOX", b"INBOX/x",
    b"Work", b"NOT ", b"OR ", b"UID ", b"BODY[", b"BODY[2.", b"HEADER.FIELDS (", b"ENVELOPE", b"DONE\r\n", b"=",
    b"*\r\n", b"a IDLE\r\n", b"b LOGOUT\r\n", b"c EXPUNGE\r\n", b" ", b"+", b"A" * 300, b"A" * 2000, b"1," * 2000,
    b"$", b"RETURN (", b"MODSEQ ", b"QRESYNC (", b"VANISHED", b"~{3+}\r\na\0b", b"CHARSET ", b"ALL " * 1100,
)  # fmt: skip

# Messages

HEAD = b"Content-Type: multipart/mixed; boundary=%b\r\n\r\n--%b\r\n"
MESSAGES = (
    MESSAGE,
    b"Content-Type: multipart/digest; boundary=x\r\n\r\n--x\r\n\r\nFrom: a@b\r\n\r\nhi\r\n--x\r\n"
    b"Content-Type: text/html\r\n"
    b"Content-Transfer-Encoding: base64\r\nContent-ID: <a@b>\r\nContent-MD5: x\r\nContent-Language: en, de\r\n"
    b"Content-Location: /x\r\nContent-Description: \xc3\xa4\r\n\r\nPGI+aGk8L2I+\r\n--x--\r\n",
    b'From: A (comment (nested)) <@r1,@r2:a@[192.0.2.1]>, group: b@c, "d\\"e"@f;, plain\r\n'
    b"Sender: =?iso-2022-jp?B?GyRC?=\r\n"
    b"Reply-To: <>\r\nCc:\r\n\r\nno line end",
    b"".join(HEAD % (b"n%d" % n, b"n%d" % n) for n in range(6)) + b"\r\ndeep\r\n--n3--\r\n--n0--\r\n",
    b"Content-Type: message/rfc822\r\n\r\n" * 4 + b"Subject: x\r\n\r\n\r\n",
    b"Subject: only a header",
    b"\r\nonly a body\r\n",
    b'Content-Type: text/plain; charset="utf-7"; x*0*=utf-8\'\'%41; x*1=b; y="a\\"\r\n b"\r\n\r\n+AGEAYg-\r\n',
)
MESSAGE_WORDS = (
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n", b"Content-Type: message/rfc822\r\n\r\n", b"--b 1",
    b"--x--", b"--", b"=?utf-8?q?", b"=?utf-8?b?", b"?=", b"=?", b'"', b"\\", b"(", b")", b"<", b">", b"<@", b":;",
    b",", b";", b"; a*0*=", b"; boundary=", b"=", b"=\r\n", b"\r\n ", b"From: ", b"boundary=\"\"", b"charset=",
    b"utf-16", b"base64", b"quoted-printable", b"unicode_escape", b"idna", b"zlib_codec", b"x" * 1000, b"\r\n\r\n\r\n",
)  # fmt: skip

# What other servers answer to our client

REPLIES = (
    (
        b"220 mx.example.net ESMTP\r\n",
        b"250-mx.example.net\r\n250-PIPELINING\r\n250-SIZE 1000000\r\n250-STARTTLS\r\n250 8BITMIME\r\n",
        b"220 2.0.0 go\r\n",
        b"250-mx.example.net\r\n250-PIPELINING\r\n250-AUTH PLAIN LOGIN\r\n250 8BITMIME\r\n",
        b"235 2.7.0 in\r\n",
        b"250 2.1.0 ok\r\n250 2.1.5 ok\r\n550-5.1.1 no\r\n550 5.1.1 such user\r\n",
        b"354 go on\r\n",
        b"250 2.0.0 taken\r\n",
        b"221 bye\r\n",
    ),
    (
        b"220-mx\r\n220 hi\r\n",
        b"502 no\r\n",
        b"250 mx\r\n",
        b"250 ok\r\n",
        b"451 4.7.1 later\r\n",
        b"250 ok\r\n",
        b"354 go\r\n",
        b"552 5.3.4 large\r\n",
    ),
    (
        b"220 mx\r\n",
        b"250-mx\r\n250 AUTH=LOGIN\r\n",
        b"334 VXNlcm5hbWU6\r\n",
        b"334 UGFzc3dvcmQ6\r\n",
        b"535 5.7.8 no\r\n",
        b"250 ok\r\n",
        b"250 ok\r\n",
        b"250 ok\r\n",
        b"354 ok\r\n",
        b"421 4.3.2 bye\r\n",
    ),
)
REPLY_WORDS = (
    b"220 ", b"250-", b"250 ", b"334 ", b"334 =\r\n", b"354 x\r\n", b"421 4.0.0 bye\r\n", b"550 5.1.1 no\r\n",
    b"999 \r\n", b"25", b"250\r\n", b"250-x\r\n" * 120, b"A" * 3000, b"SIZE ", b"SIZE 99999999999999999999999",
    b"AUTH PLAIN", b"STARTTLS", b"5.1", b"9.9.9", b"HELO\r\n",
)  # fmt: skip
