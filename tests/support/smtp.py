"""Stand-ins for an SMTP session and for the wire, to drive the engines in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from mailserver.mail import Reply
from mailserver.smtp.client import ClientConnection, ReplyReceived
from mailserver.smtp.events import (
    Auth,
    AuthCancelled,
    AuthResponse,
    BodyChunk,
    BodyEnd,
    ChunkEnd,
    Data,
    Event,
    Hello,
    Quit,
    Rejected,
    StartTLS,
)
from mailserver.smtp.server import Limits, ServerConnection

Answer = Reply | bytes  # bytes: a challenge

OK = Reply(250, "OK")
DEFAULT: Mapping[type[Event], Answer] = {
    Hello: Reply(250, "greets you"),
    Data: Reply(354, "Go on"),
    Quit: Reply(221, "Bye"),
    StartTLS: Reply(220, "Go on"),
    Auth: b"",
    AuthResponse: Reply(235, "Welcome"),
}


class Host:
    """A server engine with a session that answers all events at once: by `answer` when that gives something."""

    def __init__(
        self,
        *,
        limits: Limits | None = None,
        starttls: bool = False,
        auth: tuple[str, ...] = (),
        answer: Callable[[Event], Answer | None] | None = None,
        lmtp: bool = False,
    ) -> None:
        self.engine = ServerConnection(
            "foo.com", limits or Limits(message_size=100_000), starttls=starttls, auth=auth, lmtp=lmtp
        )
        self.answer = answer or (lambda event: None)
        self.events: list[Event] = []
        self.most_buffered = 0

    def greeted(self) -> Host:
        self.engine.greet(Reply(220, "ESMTP"))
        self.engine.data_to_send()
        return self

    def feed(self, *pieces: bytes) -> bytes:
        """What the server says to these octets."""
        for piece in pieces:
            self.engine.receive_data(piece)
            while (event := self.engine.next_event()) is not None:
                self._handle(event)
            self.most_buffered = max(self.most_buffered, self.engine.buffered)
        return self.engine.data_to_send()

    def _handle(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, BodyChunk):
            return
        answer = self.answer(event)
        if answer is None:
            answer = self._default(event)
        if isinstance(answer, bytes):
            self.engine.challenge(answer)
        else:
            self.engine.reply(answer)

    @staticmethod
    def _default(event: Event) -> Answer:
        if isinstance(event, Rejected | AuthCancelled):
            return event.reply
        if isinstance(event, BodyEnd | ChunkEnd) and event.fault is not None:
            return event.fault
        return DEFAULT.get(type(event), OK)

    def codes(self, *pieces: bytes) -> list[int]:
        """The reply codes to these octets."""
        return [int(line[:3]) for line in self.feed(*pieces).splitlines() if line[3:4] == b" "]

    @property
    def content(self) -> bytes:
        return b"".join(event.data for event in self.events if isinstance(event, BodyChunk))

    @property
    def ends(self) -> list[BodyEnd]:
        return [event for event in self.events if isinstance(event, BodyEnd)]


def joined(events: Iterable[Event]) -> list[Event]:
    """The events with neighbouring body chunks made one: equal for every split of the same input."""
    result: list[Event] = []
    for event in events:
        last = result[-1] if result else None
        if isinstance(event, BodyChunk) and isinstance(last, BodyChunk):
            result[-1] = BodyChunk(last.data + event.data)
        else:
            result.append(event)
    return result


def exchange(client: ClientConnection, host: Host) -> list[ReplyReceived]:
    """Carries octets both ways until neither end has more to say."""
    answers: list[ReplyReceived] = []
    while True:
        while (event := client.next_event()) is not None:
            answers.append(event)
        out = client.data_to_send()
        back = host.feed(out) if out else host.engine.data_to_send()
        if not out and not back:
            return answers
        client.receive_data(back)
