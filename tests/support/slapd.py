"""A real slapd in a directory of its own, on this machine's loopback: in clear with StartTLS, and by LDAPS."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import trustme

from benchmarks.ports import free_ports
from tests.support.sink import PATIENCE
from tests.support.stopping import freeze

USER = "nobody"  # who runs it when root runs the tests
PROGRAM = shutil.which("slapd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
BASE, ADMIN, PASSWORD = "dc=example", "cn=reader,dc=example", "reader-secret"

_CONFIG = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
include /etc/ldap/schema/misc.schema
include /etc/ldap/schema/nis.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {home}/pid
TLSCACertificateFile {home}/ca.pem
TLSCertificateFile {home}/cert.pem
TLSCertificateKeyFile {home}/key.pem
database mdb
suffix "{base}"
directory {home}/data
rootdn "{admin}"
rootpw {password}
access to attrs=userPassword by anonymous auth by * none
access to * by * read
"""


def missing() -> str:
    """Why there is no slapd to talk to; empty when there is one."""
    if PROGRAM is None:
        return "slapd is not installed; apt-get install slapd"
    try:
        import ldap3  # noqa: F401
    except ImportError:
        return "ldap3 is not installed; pip install 'mailserver[ldap]'"
    return ""


class Slapd:
    """`with Slapd(ldif) as server:` it serves until the block ends."""

    def __init__(self, ldif: str) -> None:
        self._ldif = ldif
        self._as = ("setpriv", f"--reuid={USER}", "--clear-groups") if os.getuid() == 0 else ()
        self.home = Path(tempfile.mkdtemp(prefix="slapd-", dir="/tmp"))
        self.port, self.tls_port = free_ports(2)
        self.url, self.tls_url = f"ldap://localhost:{self.port}", f"ldaps://localhost:{self.tls_port}"
        self.ca_file, self.password_file = self.home / "ca.pem", self.home / "password"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Slapd:
        (self.home / "data").mkdir()
        authority = trustme.CA()
        certificate = authority.issue_cert("localhost")
        authority.cert_pem.write_to_path(str(self.ca_file))
        certificate.private_key_pem.write_to_path(str(self.home / "key.pem"))
        (self.home / "cert.pem").write_bytes(b"".join(pem.bytes() for pem in certificate.cert_chain_pems))
        self.password_file.write_text(f"{PASSWORD}\n")
        config = _CONFIG.format(home=self.home, base=BASE, admin=ADMIN, password=PASSWORD)
        (self.home / "slapd.conf").write_text(config)
        (self.home / "content.ldif").write_text(self._ldif)
        if self._as:
            for path in (self.home, *self.home.rglob("*")):
                shutil.chown(path, USER)
        self._run("-T", "add", "-l", str(self.home / "content.ldif"))
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.home, ignore_errors=True)

    def start(self) -> None:
        urls = f"ldap://127.0.0.1:{self.port} ldaps://127.0.0.1:{self.tls_port}"
        with (self.home / "log").open("ab") as log:
            command = [*self._as, PROGRAM or "", "-f", self.home / "slapd.conf", "-h", urls, "-d", "0"]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/")
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.tls_port), 5).close()
            except OSError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise AssertionError((self.home / "log").read_text()) from None
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        """At once; clients lose their connections."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE)
            self._process = None

    def freeze(self, frozen: bool) -> None:
        """Nothing is answered, and no connection is closed."""
        assert self._process is not None
        freeze(self._process.pid, frozen)

    def _run(self, *arguments: str) -> None:
        command = [*self._as, PROGRAM or "", *arguments, "-f", str(self.home / "slapd.conf")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
        assert done.returncode == 0, done.stderr
