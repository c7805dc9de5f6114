"""A mail server in one process: SMTP, submission, POP3 and IMAP over plain Maildirs, with a durable relay queue."""

__version__ = "0.1.0"
