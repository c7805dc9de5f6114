"""Property: whatever remotes answer and however often storing fails, each recipient is served or reported, once."""

import email
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.accounts import Mailbox, NotLocal
from mailserver.config.relay import Relay as Settings
from mailserver.delivery import manager as manager_module
from mailserver.delivery.manager import QueueManager
from mailserver.delivery.nexthop import Site
from mailserver.delivery.router import Router
from mailserver.delivery.routes import Routes
from mailserver.mail import Address, Content, DeliveryStatus, Envelope, Recipient, Reply
from mailserver.queue import NewEntry, Queue, QueueError
from tests.support.loop import Loop, LoopWorkers

ALICE = Address("alice", "example.org")
SETTINGS = Settings.model_validate(
    {"retry_first": "1 min", "retry_max": "10 min", "lifetime": "1 h", "delay_warning": "30 min", "concurrency": 3}
)
ANSWERS = {
    "taken": (Reply.of(250, "2.0.0", "Taken"), "mx"),
    "later": (Reply.of(450, "4.2.1", "Later"), "mx"),
    "never": (Reply.of(550, "5.1.1", "Never"), "mx"),
    "unreachable": (Reply.of(451, "4.4.1", "No connection"), None),
}

answers = st.lists(st.sampled_from([*ANSWERS, "fault"]), max_size=6)
recipients = st.tuples(st.sampled_from(["a.example", "b.example", "c.example"]), answers)
messages = st.lists(recipients, min_size=1, max_size=5)


@pytest.fixture(autouse=True, scope="module")
def patient():
    """Looks once a minute, so that hours pass quickly."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manager_module, "LOOK_INTERVAL", 60.0)
        yield


class Directory:
    blocking = False

    def resolve(self, address):
        return Mailbox(address, None) if address.domain == "example.org" else NotLocal()


class World:
    """`scripts`: for each recipient its answers in turn, and after them always the last."""

    def __init__(self, directory, scripts, faults):
        self.directory = directory
        self.queue = None
        self.scripts = scripts
        self.faults = faults  # how `record` fails, in turn
        self.taken = Counter()
        self.reports = []
        self.begin()

    def begin(self):
        """A new process over the same queue; the former one does nothing any more."""
        if self.queue is not None:
            self.queue.close()
        self.queue = Queue(self.directory)
        self._record = self.queue.record
        self.queue.record = self.record
        self.loop = Loop(epoch=self.loop.epoch if hasattr(self, "loop") else 1_700_000_000.0)
        workers = LoopWorkers(self.loop)
        self.manager = QueueManager(
            self.queue,
            SETTINGS,
            hostname="mail.example.org",
            router=Router(Directory(), "mail.example.org", workers=workers, clock=self.loop),
            routes=Routes(),
            relay=self,
            deliver=workers.grouped(self.deliver_locally),
            workers=workers,
            clock=self.loop,
        )
        self.manager.start()

    def record(self, batch):
        if self.faults and self.faults.pop():
            raise QueueError("disk full")
        return self._record(batch)

    def deliver_locally(self, batch):
        for delivery in batch:
            message = email.message_from_bytes(b"".join(delivery.content.chunks()))
            for fields in message.get_payload()[1].get_payload()[1:]:
                self.reports.append((fields["Final-Recipient"].removeprefix("rfc822; "), fields["Action"]))
        return ["path"] * len(batch)

    async def locate(self, transport, domain):
        return Site(domain, transport)

    def abort(self):
        pass

    async def deliver(self, site, envelope, header, content):
        recipients = [recipient.address for recipient in envelope.recipients]
        await self.loop.sleep(5.0)
        kinds = [self.next_answer(self.scripts[str(recipient)]) for recipient in recipients]
        if "fault" in kinds:
            raise RuntimeError("a fault in the relay")
        self.taken.update(str(r) for r, kind in zip(recipients, kinds, strict=True) if kind == "taken")
        return [DeliveryStatus.of_reply(r, *ANSWERS[kind]) for r, kind in zip(recipients, kinds, strict=True)]

    def next_answer(self, script):
        if not script:
            return "taken"
        return script.pop(0) if len(script) > 1 or script == ["fault"] else script[0]

    def failed(self, recipient):
        return self.reports.count((recipient, "failed"))


def fill(directory, drawn):
    """Queues the messages; the scripts of their recipients, each of which has an address of its own."""
    scripts = {}
    queue = Queue(directory)
    for number, message in enumerate(drawn):
        to = []
        for place, (domain, script) in enumerate(message):
            address = Address(f"u{number}-{place}", domain)
            scripts[str(address)] = list(script)
            to.append(Recipient(address))
        queue.add([NewEntry(Envelope(ALICE, tuple(to)), Content(b"Subject: x\r\n\r\n"), b"", 1_700_000_000.0)])
    queue.close()
    return scripts


@settings(max_examples=30)
@given(st.lists(messages, min_size=1, max_size=4), st.lists(st.booleans(), max_size=10))
def test_each_recipient_is_served_or_reported_and_only_once(tmp_path_factory, drawn, faults):
    directory = tmp_path_factory.mktemp("queue")
    world = World(directory, fill(directory, drawn), faults)
    world.loop.advance(3 * 3600)
    assert world.loop.failures == []
    assert world.queue.list() == []
    for recipient in world.scripts:
        assert world.taken[recipient] + world.failed(recipient) == 1
        assert world.reports.count((recipient, "delayed")) <= 1
    world.queue.close()


@settings(max_examples=30)
@given(
    st.lists(messages, min_size=1, max_size=4),
    st.lists(st.floats(0.0, 700.0), min_size=1, max_size=4),
)
def test_none_is_lost_and_none_reported_twice_when_the_process_dies(tmp_path_factory, drawn, lives):
    directory = tmp_path_factory.mktemp("queue")
    world = World(directory, fill(directory, drawn), [])
    for life in lives:
        world.loop.advance(life)
        world.begin()
    world.loop.advance(3 * 3600)
    assert world.queue.list() == []
    for recipient in world.scripts:
        assert world.taken[recipient] + world.failed(recipient) >= 1
        assert world.failed(recipient) <= 1
    world.queue.close()


def test_the_simulation_sees_each_kind_of_end(tmp_path):
    """Guards the properties above against a simulation in which nothing happens."""
    drawn = [[("a.example", ["later", "taken"]), ("b.example", ["never"]), ("c.example", ["later"])]]
    world = World(tmp_path, fill(tmp_path, drawn), [])
    world.loop.advance(3 * 3600)
    assert world.taken == {"u0-0@a.example": 1}
    assert sorted(world.reports) == [
        ("u0-1@b.example", "failed"),
        ("u0-2@c.example", "delayed"),
        ("u0-2@c.example", "failed"),
    ]
    world.queue.close()
