"""The states of a connection (RFC 3501 §3). What leads from one to another stands in `server.TRANSITIONS`."""

from __future__ import annotations

from enum import Enum, auto


class State(Enum):
    NOT_AUTHENTICATED = auto()
    AUTHENTICATED = auto()
    SELECTED = auto()
    LOGOUT = auto()
