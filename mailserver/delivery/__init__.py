"""Mail on its way: where an address leads, delivery into mailboxes, the queue manager, the SMTP relay, reports."""

from mailserver.delivery.intake import Intake
from mailserver.delivery.manager import QueueManager
from mailserver.delivery.relay import Relay
from mailserver.delivery.router import Local, Refused, Remote, Route, Router

__all__ = ["Intake", "Local", "QueueManager", "Refused", "Relay", "Remote", "Route", "Router"]
