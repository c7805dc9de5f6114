"""A name server on loopback whose zone a test changes as it goes along.

`zone["example.net", "MX"] = ["10 mx.example.net."]` in the text form of zone files. A name that has any record gives an
empty answer for other types; a name without records gives NXDOMAIN; `faults` makes single names misbehave. Answers
carry a TTL of 0 and an SOA with a negative TTL of 0, so that no resolver remembers what a test changes later; a failure
is remembered for some seconds all the same.
"""

from __future__ import annotations

import socket
import threading
from enum import Enum
from types import TracebackType

from dnslib import QTYPE, RCODE, RR, SOA, DNSRecord


class Fault(Enum):
    SERVFAIL = "SERVFAIL"
    REFUSED = "REFUSED"
    NXDOMAIN = "NXDOMAIN"
    SILENCE = "silence"
    GARBAGE = "garbage"


class NameServer:
    """`with NameServer() as dns: ... dns.address` is "127.0.0.1:PORT", as `relay.resolver` wants it."""

    def __init__(self, zone: dict[tuple[str, str], list[str]] | None = None) -> None:
        self.zone = zone or {}
        self.faults: dict[str, Fault] = {}
        self.ttl = 0
        self.soa: tuple[int, int] | None = (0, 0)
        """TTL and MINIMUM of what says that there is nothing; None: it comes without."""
        self.follows = True
        """An alias comes with what it leads to."""
        self.questions: list[tuple[str, str]] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, name="name server", daemon=True)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def mail_domain(self, domain: str, address: str = "127.0.0.1") -> None:
        """Mail for `domain` goes to a host of its own at this IP address."""
        self.zone[domain, "MX"] = [f"10 mx.{domain}."]
        self.zone[f"mx.{domain}", "A"] = [address]

    def __enter__(self) -> NameServer:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            packet, peer = self._socket.recvfrom(4096)
            if not packet:
                return
            if answer := self._answer(packet):
                self._socket.sendto(answer, peer)

    def _answer(self, packet: bytes) -> bytes | None:
        query = DNSRecord.parse(packet)
        name, kind = str(query.q.qname).rstrip(".").lower(), QTYPE[query.q.qtype]
        self.questions.append((name, kind))
        fault = self.faults.get(name)
        if fault is Fault.SILENCE:
            return None
        if fault is Fault.GARBAGE:
            return packet[:2] + b"\xff" * 10
        reply = query.reply()
        if fault is not None:
            reply.header.rcode = getattr(RCODE, fault.value)
            return bytes(reply.pack())
        self._add_records(reply, name, kind)
        if not reply.rr:
            if not any(known == name for known, _ in self.zone):
                reply.header.rcode = RCODE.NXDOMAIN
            if self.soa is not None:
                ttl, minimum = self.soa
                record = SOA("ns.test", "root.test", (1, 60, 60, 60, minimum))
                reply.add_auth(RR(name, QTYPE.SOA, rdata=record, ttl=ttl))
        return bytes(reply.pack())

    def _add_records(self, reply: DNSRecord, name: str, kind: str) -> None:
        for _ in range(8):  # a loop of aliases ends somewhere
            for record in self.zone.get((name, kind), ()):
                reply.add_answer(*RR.fromZone(f"{name}. {self.ttl} IN {kind} {record}"))
            alias = self.zone.get((name, "CNAME"))
            if alias is None or kind == "CNAME":
                return
            reply.add_answer(*RR.fromZone(f"{name}. {self.ttl} IN CNAME {alias[0]}"))
            if not self.follows:
                return
            name = alias[0].rstrip(".").lower()
