"""PROXY and XCLIENT over real sockets, by swaks: the client that is told of is the one that counts."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomlkit

from benchmarks.ports import free_ports
from mailserver.net.factory import PROXY_WAITING
from tests.support.clients import program, run
from tests.support.server import ALICE, RunningServer
from tests.support.sink import wait_until


class Behind(RunningServer):
    """With ports for a load balancer besides."""

    smtp_behind = imaps_behind = 0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    made = Behind(tmp_path_factory.mktemp("server"), sections={"proxies": {"networks": ["127.0.0.0/30"]}})
    made.smtp_behind, made.imaps_behind = free_ports(2)
    configuration = tomlkit.parse(made.config.read_text())
    for protocol, port, tls in (
        ("smtp", made.smtp_behind, "starttls"),
        ("imap", made.imaps_behind, "implicit"),
    ):
        endpoint = f"tcp:{port}:interface=127.0.0.1"
        listener = {"protocol": protocol, "endpoint": endpoint, "tls": tls, "proxy": True}
        configuration["listener"].append(listener)  # type: ignore[union-attr]
    made.config.write_text(tomlkit.dumps(configuration))
    with made:
        yield made


def last(server: Behind) -> bytes:
    return server.messages(ALICE)[-1]


@pytest.mark.parametrize("version", ["1", "2"])
def test_a_load_balancer_tells_whom_it_connects(server: Behind, tmp_path: Path, version: str) -> None:
    run(
        *(program("swaks"), "--server", "127.0.0.1", "--port", str(server.smtp_behind)),
        *("--from", "x@example.net", "--to", ALICE, "--proxy-version", version, "--proxy-family", "TCP4"),
        *("--proxy-source", "192.0.2.77", "--proxy-source-port", "4444", "--proxy-dest", "198.51.100.1"),
        *("--proxy-dest-port", "25", *(["--proxy-protocol", "STREAM", "--proxy-family", "AF_INET"] * (version == "2"))),
        *(["--proxy-command", "PROXY"] * (version == "2")),
        home=tmp_path,
    )
    assert b"([192.0.2.77])" in last(server)


def test_a_filter_tells_for_whom_it_speaks(server: Behind, tmp_path: Path) -> None:
    run(
        *(program("swaks"), "--server", "127.0.0.1", "--port", str(server.ports.smtp), "--from", "x@example.net"),
        *("--to", ALICE, "--xclient", "ADDR=203.0.113.9 NAME=client.example HELO=client.example"),
        home=tmp_path,
    )
    assert b"([203.0.113.9])" in last(server)


def test_a_client_that_the_proxy_cannot_name_has_not_the_rights_of_the_proxy(server: Behind) -> None:
    with socket.create_connection(("127.0.0.1", server.smtp_behind), 10) as client:
        client.sendall(b"PROXY UNKNOWN\r\n")
        lines = client.makefile("rb")
        assert lines.readline().startswith(b"220 ")
        client.sendall(b"EHLO c\r\nXCLIENT ADDR=127.0.0.1\r\nQUIT\r\n")
        answer = lines.read()
    assert b"-XCLIENT" not in answer and b"550 5.7.1 Only known proxies" in answer


def test_connections_that_send_no_header_are_bounded(server: Behind) -> None:
    address = ("127.0.0.1", server.smtp_behind)
    silent = [socket.create_connection(address, 10) for _ in range(PROXY_WAITING)]
    try:
        with socket.create_connection(address, 10) as client:
            assert client.recv(100) == b""
        for connection in silent:
            assert connection.recv(100) == b"", "a proxy sends its header at once"
    except ConnectionResetError:
        pass
    finally:
        for connection in silent:
            connection.close()
    with socket.create_connection(address, 10) as client:
        client.sendall(b"PROXY TCP4 192.0.2.8 198.51.100.1 1 25\r\n")
        assert client.recv(4) == b"220 "


def test_implicit_tls_begins_behind_the_header(server: Behind) -> None:
    with socket.create_connection(("127.0.0.1", server.imaps_behind), 10) as raw:
        raw.sendall(b"PROXY TCP6 2001:db8::5 2001:db8::1 5555 993\r\n")
        with server.tls_context().wrap_socket(raw, server_hostname="localhost") as client:
            assert client.recv(4) == b"* OK"
    wait_until(lambda: "peer=2001:db8::5 service=imap" in server.log(), what="the address in the log")


def test_a_connection_without_a_header_gets_nothing(server: Behind) -> None:
    for words in (b"EHLO spammer\r\n", b"PROXY nonsense\r\n"):
        with socket.create_connection(("127.0.0.1", server.smtp_behind), 10) as client:
            client.sendall(words)
            try:
                assert client.recv(100) == b""
            except ConnectionResetError:
                pass


def test_strangers_may_neither(server: Behind) -> None:
    stranger = ("127.0.0.9", 0)
    with socket.create_connection(("127.0.0.1", server.ports.smtp), 10, stranger) as client:
        lines = client.makefile("rb")
        lines.readline()
        client.sendall(b"EHLO c\r\nXCLIENT ADDR=127.0.0.1\r\nQUIT\r\n")
        answer = lines.read()
    assert b"XCLIENT" not in answer.partition(b"250 HELP")[0]
    assert b"550 5.7.1 Only known proxies" in answer
    with socket.create_connection(("127.0.0.1", server.smtp_behind), 10, stranger) as client:
        client.sendall(b"PROXY TCP4 127.0.0.1 127.0.0.1 1 25\r\n")
        try:
            assert client.recv(100) == b""
        except (ConnectionResetError, ssl.SSLError):
            pass
