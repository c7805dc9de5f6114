"""imapfilter finds messages by its rules, marks, moves and copies them."""

from __future__ import annotations

from pathlib import Path

from tests.support.clients import SAMPLES, literals, program, run
from tests.support.server import DOMAIN, PASSWORD, RunningServer

DAVE = f"dave@{DOMAIN}"

RULES = """\
options.timeout = 60
options.certificates = false
options.create = true
options.subscribe = true
box = IMAP {{ server = 'localhost', port = {port}, username = '{user}', password = '{password}', ssl = 'auto' }}

filed = box.INBOX:contain_subject('dots') + box.INBOX:contain_body('FROM QUOTED')
filed:move_messages(box['Filed/dots'])
large = box.INBOX:is_larger(3000) * box.INBOX:is_unseen()
large:mark_flagged()
large:copy_messages(box['Large'])
old = box.INBOX:match_field('Subject', '^(usual|empty)$') - box.INBOX:is_older(3)
old:delete_messages()

mailboxes, folders = box:list_all()
table.sort(mailboxes)
exist, recent, unseen, uidnext = box.INBOX:check_status()
print(table.concat(mailboxes, ' '), table.concat(folders, ' '), exist)
"""


def test_rules(server: RunningServer, home: Path) -> None:
    client = server.imap(DAVE)
    for message in SAMPLES.values():
        client.append("INBOX", None, None, message)
    rules = RULES.format(port=server.ports.imaps, user=DAVE, password=PASSWORD)
    (home / "rules.lua").write_text(rules)
    said = run(program("imapfilter"), "-c", "rules.lua", "-t", server.ca_file, home=home)
    assert said.splitlines()[-1] == b"INBOX Large\tFiled\t4"
    moved, deleted, large = ("dots", "from-lines"), ("usual", "empty"), "long-lines"
    left = [SAMPLES[name] for name in SAMPLES if name not in (*moved, *deleted)]
    for mailbox, expected in (("Filed/dots", [SAMPLES[name] for name in moved]), ("Large", [SAMPLES[large]])):
        client.select(mailbox)
        assert literals(client.fetch("1:*", "(BODY.PEEK[])")) == expected
    client.select("INBOX")
    assert literals(client.fetch("1:*", "(BODY.PEEK[])")) == left
    assert client.search(None, "FLAGGED") == ("OK", [b"%d" % (left.index(SAMPLES[large]) + 1)])
    assert [line.rpartition(b" ")[2].strip(b'"') for line in client.lsub()[1]] == [b"Filed/dots", b"Large"]
    client.logout()
