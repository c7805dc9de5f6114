"""A client of one connection that says any octets, and what it costs the server."""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support.server import RunningServer
from tests.support.sink import PATIENCE


class Wire:
    """A client of one connection, octet by octet. `source` is the address that it comes from."""

    def __init__(self, server: RunningServer, service: str, *, source: str = "127.0.0.1") -> None:
        self._server = server
        self.socket = socket.create_connection(
            ("127.0.0.1", getattr(server.ports, service)), timeout=PATIENCE, source_address=(source, 0)
        )
        self._input = b""

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def encrypt(self) -> Wire:
        """TLS from here on."""
        assert self._input == b""
        self.socket = self._server.tls_context().wrap_socket(self.socket, server_hostname="localhost")
        return self

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def line(self) -> bytes:
        """The next line, with its end; what there is when the server closes."""
        while b"\n" not in self._input and (data := self.socket.recv(65536)):
            self._input += data
        line, found, self._input = self._input.partition(b"\n")
        return line + found

    def ask(self, command: bytes) -> bytes:
        """The last line of the answer: of SMTP, or to an IMAP command with the tag `t`."""
        self.send(command)
        while (line := self.line())[3:4] == b"-" or line.startswith(b"* "):
            pass
        return line

    def codes(self, *commands: bytes) -> list[int]:
        return [int(self.ask(command + b"\r\n")[:3]) for command in commands]

    def rest(self, seconds: float = PATIENCE) -> bytes:
        """What comes until the server closes; AssertionError when it does not within the time."""
        data, self._input = self._input, b""
        end = time.monotonic() + seconds
        try:
            while True:
                self.socket.settimeout(max(0.01, end - time.monotonic()))
                more = self.socket.recv(65536)
                if not more:
                    return data
                data += more
        except ConnectionError:
            return data
        except ssl.SSLError as error:
            assert not isinstance(error, TimeoutError), f"still open after {seconds} s; it said {data!r}"
            return data
        except TimeoutError:
            raise AssertionError(f"still open after {seconds} s; it said {data!r}") from None

    def push(self, data: bytes, seconds: float) -> int:
        """Sends as much as the server takes within the time; how many octets those were."""
        self.socket.settimeout(0.2)
        sent, end = 0, time.monotonic() + seconds
        while sent < len(data) and time.monotonic() < end:
            try:
                sent += self.socket.send(data[sent : sent + 65536])
            except TimeoutError:
                continue
            except (ConnectionError, ssl.SSLError):
                break
        self.socket.settimeout(PATIENCE)
        return sent


def resident(server: RunningServer) -> int:
    """Octets of memory that the server has now."""
    assert server.process is not None
    match = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{server.process.pid}/status").read_text())
    assert match
    return int(match[1]) * 1024


def together(attacks: Sequence[Callable[[], None]]) -> None:
    """All at the same time; the first failure comes out."""
    with ThreadPoolExecutor(len(attacks)) as pool:
        for attack in [pool.submit(attack) for attack in attacks]:
            attack.result()
