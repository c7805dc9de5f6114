"""Next hops on loopback: one that takes all mail and counts it, silent ones, and the DNS that leads to them.

Needs      smtp-sink, which comes with Postfix. Linux: all of 127.0.0.0/8 is this machine, and a listener that accepts
           nobody drops connections once its backlog is full.
On failure `Missing` says what to install.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from benchmarks.peers import Missing, program
from benchmarks.ports import free_ports

ADDRESS = "127.0.0.1"
TTL = 3600


class Sink:
    """smtp-sink: takes every message and throws it away. It tells a counter, which is kept in a file."""

    def __init__(self, directory: Path) -> None:
        self._program = program("smtp-sink")
        if self._program is None:
            raise Missing("smtp-sink: apt-get install postfix")
        directory.mkdir(parents=True, exist_ok=True)
        (self.port,) = free_ports(1)
        self._counter = directory / f"sink-{self.port}"

    def __enter__(self) -> Self:
        user = [] if os.geteuid() else ["-u", "nobody"]
        command = [str(self._program), *user, "-c", "-m", "1000", f"{ADDRESS}:{self.port}", "1000"]
        with self._counter.open("wb") as counter:
            self._process = subprocess.Popen(command, stdout=counter)
        for _ in range(500):
            with suppress(OSError), socket.create_connection((ADDRESS, self.port), 1):
                return self
            time.sleep(0.01)
        self.__exit__()
        raise RuntimeError(f"nothing answers on port {self.port}")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(10)

    def count(self) -> int:
        """Messages that have arrived since it was started."""
        with self._counter.open("rb") as counter:
            counter.seek(max(0, counter.seek(0, os.SEEK_END) - 200))
            told = re.findall(rb"mesg=(\d+)\r", counter.read())
        return int(told[-1]) if told else 0

    def reached(self, count: int, seconds: float) -> float:
        """Waits until so many have arrived, and gives the moment. Raises TimeoutError."""
        end = time.monotonic() + seconds
        while self.count() < count:
            if time.monotonic() > end:
                raise TimeoutError(f"{self.count()} of {count} messages have arrived")
            time.sleep(0.005)
        return time.monotonic()


class SilentHosts:
    """Addresses on which connections to a port are neither taken nor refused."""

    def __init__(self, addresses: Iterable[str], port: int) -> None:
        self._sockets: list[socket.socket] = []
        for address in addresses:
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address, port))
            listener.listen(0)
            self._sockets += [listener, socket.create_connection((address, port), 5)]  # which fills its backlog

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._sockets:
            each.close()


class NameServer:
    """`hosts`: the address to which the mail of each domain goes, by an MX record. Answers may be kept for an hour."""

    def __init__(self, hosts: Mapping[str, str]) -> None:
        self._hosts = hosts
        self._answers: dict[bytes, bytes] = {}  # by question; all without their first two octets, the id
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((ADDRESS, 0))
        self.port = int(self._socket.getsockname()[1])
        self._thread = threading.Thread(target=self._serve, name="name server", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", (ADDRESS, self.port))
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            packet, peer = self._socket.recvfrom(4096)
            if not packet:
                return
            answer = self._answers.get(packet[2:])
            if answer is None:
                with suppress(dns.exception.DNSException):
                    answer = self._answers[packet[2:]] = self._answer(packet)[2:]
            if answer is not None:
                self._socket.sendto(packet[:2] + answer, peer)

    def _answer(self, packet: bytes) -> bytes:
        query = dns.message.from_wire(packet)
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.AA | dns.flags.RA
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        domain = name.removeprefix("mx.")
        if domain not in self._hosts:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        elif question.rdtype == dns.rdatatype.MX and name == domain:
            reply.answer.append(dns.rrset.from_text(question.name, TTL, "IN", "MX", f"10 mx.{name}."))
        elif question.rdtype == dns.rdatatype.A and name != domain:
            reply.answer.append(dns.rrset.from_text(question.name, TTL, "IN", "A", self._hosts[domain]))
        if not reply.answer:
            soa = f"ns.test. root.test. 1 {TTL} {TTL} {TTL} {TTL}"
            reply.authority.append(dns.rrset.from_text("test.", TTL, "IN", "SOA", soa))
        return reply.to_wire()
