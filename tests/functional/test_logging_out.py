"""One connection serves two users, one after the other: UNAUTHENTICATE over TLS, with compression for the first."""

from __future__ import annotations

import socket
import zlib
from pathlib import Path

from tests.support.server import ALICE, BOB, PASSWORD, RunningServer


def read_to(connection: socket.socket, end: bytes) -> bytes:
    data = b""
    while end not in data:
        more = connection.recv(65536)
        assert more, data
        data += more
    return data


def test_two_users_on_one_connection(tmp_path: Path) -> None:
    login = f'LOGIN {{0}} "{PASSWORD}"\r\n'
    with (
        RunningServer(tmp_path) as server,
        socket.create_connection(("localhost", server.ports.imaps), timeout=30) as plain,
        server.tls_context().wrap_socket(plain, server_hostname="localhost") as client,
    ):
        client.sendall(b"a " + login.format(ALICE).encode() + b"b ENABLE IMAP4rev2\r\n")
        client.sendall('c CREATE "u\u0308"\r\nd SELECT "\u00fc"\r\ne COMPRESS DEFLATE\r\n'.encode())
        answer = read_to(client, b"e OK ")
        assert '* LIST (\\HasNoChildren) "/" "\u00fc" ("OLDNAME" ("u\u0308"))\r\nc OK '.encode() in answer
        assert b"d OK [READ-WRITE]" in answer

        deflate, inflate = zlib.compressobj(wbits=-15), zlib.decompressobj(-15)
        words = deflate.compress(b"f SEARCH ALL\r\ng UNAUTHENTICATE\r\n") + deflate.flush(zlib.Z_FINISH)
        client.sendall(words + b"h " + login.format(BOB).encode() + b'i LIST "" *\r\n')
        received = b""
        while b"i OK " not in inflate.unused_data + received:
            more = client.recv(65536)
            assert more
            if inflate.eof:
                received += more
            else:
                answer += inflate.decompress(more)
        assert answer.endswith(
            b'* ESEARCH (TAG "f")\r\nf OK Searched\r\ng OK Logged out; no compression from here on\r\n'
        )
        told = inflate.unused_data + received
        assert told.startswith(b"h OK [CAPABILITY ")
        assert b'* LIST (\\HasNoChildren) "/" "INBOX"\r\ni OK ' in told and told.count(b"* LIST") == 1
