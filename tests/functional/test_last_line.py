"""A message whose last line has no line end: kept so by IMAP, ended by the protocol in SMTP and POP3."""

from pathlib import Path

from tests.support.server import ALICE, BOB, RunningServer

OPEN_ENDED = b"Subject: open end\r\n\r\nfirst line\r\n.last line"


def test_a_body_without_a_final_line_end(tmp_path: Path) -> None:
    with RunningServer(tmp_path) as server:
        with server.imap() as client:
            client.append("INBOX", "", "", OPEN_ENDED)
            client.select("INBOX")
            _, fetched = client.fetch("1", "(RFC822.SIZE BODY.PEEK[])")
            assert fetched[0][1] == OPEN_ENDED
            assert b"RFC822.SIZE %d " % len(OPEN_ENDED) in fetched[0][0]
        assert server.messages(ALICE) == [OPEN_ENDED.replace(b"\r\n", b"\n")]
        pop = server.pop3()
        assert b"\r\n".join(pop.retr(1)[1]) == OPEN_ENDED
        pop.quit()

        with server.smtp() as smtp:
            smtp.sendmail("x@example.net", [BOB], OPEN_ENDED)
        (message,) = server.messages(BOB)
        assert message.endswith(b"\n\nfirst line\n.last line\n")
        with server.imap(BOB) as client:
            client.select("INBOX")
            _, fetched = client.fetch("1", "(BODY.PEEK[TEXT])")
            assert fetched[0][1] == b"first line\r\n.last line\r\n"
