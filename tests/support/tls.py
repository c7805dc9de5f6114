"""Certificates and servers for tests of TLS: what a client sees over a real socket."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import trustme
from twisted.internet import endpoints
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer

from mailserver.net.handshake import Handshake
from mailserver.net.tls import CertificateStore
from tests.support.reactor import in_reactor
from tests.support.sink import PATIENCE

CA = trustme.CA()


def write_certificate(directory: Path, *names: str, ca: trustme.CA = CA, **how: Any) -> tuple[Path, Path]:
    """The files NAME.crt and NAME.key; `how` as trustme's issue_cert takes it."""
    issued = ca.issue_cert(*names, **how)
    certificate, key = directory / f"{names[0]}.crt", directory / f"{names[0]}.key"
    certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    key.touch(mode=0o600)
    key.write_bytes(issued.private_key_pem.bytes())
    return certificate, key


@contextlib.contextmanager
def serving(store: CertificateStore, protocols: Sequence[bytes] = (), *, asks: bool = False) -> Iterator[int]:
    """A server that shakes hands and says "hello" and the addresses of the client's certificate; gives its port."""

    @implementer(IHandshakeListener)
    class Greeter(Protocol):
        transport: Any

        def connectionMade(self) -> None:
            self.handshake = Handshake(store, protocols, asks=asks, session="test1")
            self.transport.startTLS(self.handshake)

        def handshakeCompleted(self) -> None:
            shown = self.handshake.client_certificate(self.transport.getHandle())
            who = " ".join(shown.addresses) or shown.subject if shown else "stranger"
            self.transport.write(f"hello {who}\n".encode())

    async def listen(reactor: Any) -> Any:
        endpoint = endpoints.TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        return await endpoint.listen(Factory.forProtocol(Greeter))

    async def stop(_: Any) -> None:
        await port.stopListening()

    port = in_reactor(listen)
    try:
        yield port.getHost().port
    finally:
        in_reactor(stop)


def trusting(certificate: Path | None = None, key: Path | None = None, **settings: Any) -> ssl.SSLContext:
    """What a client has that trusts `CA`, and shows a certificate. `settings` as `maximum_version=...`."""
    context = ssl.create_default_context()
    CA.configure_trust(context)
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    for name, value in settings.items():
        setattr(context, name, value)
    return context


def handshake(
    port: int, name: str = "mail.example.org", context: ssl.SSLContext | None = None, **how: Any
) -> ssl.SSLSocket:
    """`how` as wrap_socket takes it."""
    plain = socket.create_connection(("127.0.0.1", port), PATIENCE)
    try:
        return (context or trusting()).wrap_socket(plain, server_hostname=name, **how)
    except BaseException:
        plain.close()
        raise


def greeting(port: int, name: str = "mail.example.org", context: ssl.SSLContext | None = None, **how: Any) -> str:
    with handshake(port, name, context, **how) as connection:
        return connection.recv(200).decode().strip()
