"""Makes `twistd mailserver` known to Twisted. Everything else is in `mailserver.service`."""

from twisted.application.service import ServiceMaker

mailserver = ServiceMaker(
    "mailserver",
    "mailserver.service",
    "A mail server: SMTP, submission, POP3 and IMAP over plain Maildirs, with a durable relay queue.",
    "mailserver",
)
