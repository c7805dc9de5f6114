"""The process: as whom it runs, what it leaves on disk, and what signals do."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import smtplib
import socket
import ssl
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from tests.support.server import ALICE, ROOT, STOP_TIMEOUT, RunningServer
from tests.support.sink import wait_until

NOBODY = pwd.getpwnam("nobody")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, who can become somebody else")
MESSAGE = b"From: x@example.com\r\nSubject: hello\r\n\r\nHello.\r\n"


def send(server: RunningServer) -> None:
    with smtplib.SMTP("127.0.0.1", server.ports.smtp) as client:
        client.sendmail("x@example.com", [ALICE], MESSAGE)


def processes(server: RunningServer) -> list[Path]:
    """The server's and those that it started."""
    assert server.process is not None
    first = server.process.pid
    told = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = [tuple(map(int, line.split())) for line in told.splitlines()]
    return [Path(f"/proc/{pid}") for pid, parent in pairs if first in (pid, parent)]


# As whom


@as_root
def test_it_does_not_serve_as_root(tmp_path: Path) -> None:
    server = RunningServer(tmp_path, allow_root=False)
    with pytest.raises(AssertionError, match="does not serve as root: start it as a user of its own"):
        server.start()
    assert not server.data.exists()


def nobody_may_run_python() -> bool:
    try:
        return subprocess.run([sys.executable, "-c", ""], user=NOBODY.pw_uid, cwd="/").returncode == 0
    except OSError:
        return False


@as_root
@pytest.mark.parametrize("workers", [1, 2])
def test_it_binds_as_root_and_serves_as_another(open_directory: Path, workers: int) -> None:
    if workers > 1 and not nobody_may_run_python():
        pytest.skip("this Python lies where only root may go, so that no other user could start a worker")
    server = RunningServer(
        open_directory,
        twistd=["--uid", str(NOBODY.pw_uid), "--gid", str(NOBODY.pw_gid)],
        allow_root=False,
        workers=workers,
    )
    server.data.mkdir()
    for path in (server.data, open_directory / "key.pem"):
        os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)
    with server:
        send(server)
        running = processes(server)
        assert len(running) >= workers
        for process in running:
            status = (process / "status").read_text()
            for kind, wanted in (("Uid", NOBODY.pw_uid), ("Gid", NOBODY.pw_gid)):
                assert re.search(rf"^{kind}:((?:\t{wanted}){{4}})$", status, re.MULTILINE), status
            groups = re.search(r"^Groups:(.*)$", status, re.MULTILINE)
            assert groups is not None and "0" not in groups[1].split()
    assert len(server.messages(ALICE)) == 1
    for path in server.data.rglob("*"):
        assert path.lstat().st_uid == NOBODY.pw_uid, path


@as_root
def test_a_key_that_only_root_can_read_is_told(open_directory: Path) -> None:
    """One process has read it before it became somebody else; workers have not."""
    dropped = ["--uid", str(NOBODY.pw_uid), "--gid", str(NOBODY.pw_gid)]
    server = RunningServer(open_directory, twistd=dropped, allow_root=False)
    server.data.mkdir()
    os.chown(server.data, NOBODY.pw_uid, NOBODY.pw_gid)
    with server:
        told = f"key.pem: cannot be read by user {NOBODY.pw_uid}, as which this serves"
        wait_until(lambda: told in server.log(), what="a line of the log")
        assert "certificate.pem: cannot be read" not in server.log()
    server = RunningServer(open_directory, twistd=dropped, allow_root=False, workers=2)
    with pytest.raises(AssertionError, match=r"key\.pem: cannot be read: Permission denied; the workers, as user"):
        server.start()


def test_nobody_else_can_read_what_it_writes(tmp_path: Path) -> None:
    with RunningServer(tmp_path) as server:
        send(server)
    for path in (server.data, *server.data.rglob("*")):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path


def test_data_of_a_newer_version_are_left_alone(tmp_path: Path) -> None:
    with RunningServer(tmp_path) as server:
        send(server)
    assert (server.data / "version").read_text() == "1\n"
    (server.data / "version").write_text("2\n")
    for workers in (1, 2):
        server = RunningServer(tmp_path, workers=workers)
        with pytest.raises(AssertionError, match="was used by a newer version of this program"):
            server.start()
    (server.data / "version").write_text("nonsense\n")
    with pytest.raises(AssertionError, match="holds no version"):
        RunningServer(tmp_path).start()


# Signals


def fingerprint(server: RunningServer) -> bytes:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", server.ports.imaps), 10) as raw, context.wrap_socket(raw) as tls:
        return tls.getpeercert(binary_form=True) or b""


@pytest.mark.parametrize("workers", [1, 2])
def test_sighup_reads_accounts_and_certificates_in_all_processes(tmp_path: Path, workers: int) -> None:
    with RunningServer(tmp_path, workers=workers) as server:
        assert server.process is not None
        kept = server.imap()
        made = trustme.CA().issue_cert("localhost", "127.0.0.1")
        made.private_key_pem.write_to_path(str(server.directory / "key.pem"))
        made.cert_chain_pems[0].write_to_path(str(server.directory / "certificate.pem"))
        server.accounts["zoe@example.test"] = []
        server.write_accounts()
        server.config.write_text(server.config.read_text() + "\n# later\n")
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: server.log().count("accounts taken over") >= workers, what="the accounts to be read")
        wait_until(lambda: server.log().count("certificates were read again") >= workers, what="the certificates")
        changed = "mailserver.toml was changed: that is taken over when the server is started again"
        wait_until(lambda: changed in server.log(), what="a word about the configuration")
        wanted = ssl.PEM_cert_to_DER_cert(made.cert_chain_pems[0].bytes().decode())
        assert {fingerprint(server) for _ in range(8)} == {wanted}
        for _ in range(4):
            with smtplib.SMTP("127.0.0.1", server.ports.smtp) as client:
                client.sendmail("x@example.com", ["zoe@example.test"], MESSAGE)
        assert kept.noop()[0] == "OK", "nobody is sent away for it"
        kept.logout()


def test_sighup_while_workers_begin_ends_none_and_is_not_lost(tmp_path: Path) -> None:
    slow = "import sys, time\nif 'mailserver.worker' in sys.orig_argv:\n    time.sleep(6)\n"
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow" / "sitecustomize.py").write_text(slow)
    server = RunningServer(tmp_path, workers=2, environment={"PYTHONPATH": f"{tmp_path / 'slow'}:{ROOT}"})

    def hang_up() -> None:
        wait_until(lambda: "worker=1 pid=" in server.log(), what="the workers")
        assert server.process is not None
        server.process.send_signal(signal.SIGHUP)

    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(hang_up)
        with server:
            sent.result()
            wait_until(lambda: server.log().count("accounts taken over") >= 2, what="the accounts to be read")
            assert "ended:" not in server.log()


@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_lets_a_message_that_is_on_its_way_arrive(tmp_path: Path, workers: int) -> None:
    with RunningServer(tmp_path, workers=workers) as server:
        assert server.process is not None
        wait_until(lambda: server.log().count("ready, as") == workers, 20, "all processes")
        idle = smtplib.SMTP("127.0.0.1", server.ports.smtp)
        client = smtplib.SMTP("127.0.0.1", server.ports.smtp)
        client.ehlo()
        client.mail("x@example.com")
        client.rcpt(ALICE)
        assert client.docmd("DATA")[0] == 354
        client.send(MESSAGE)
        server.process.send_signal(signal.SIGTERM)
        assert idle.getreply()[0] == 421
        wait_until(lambda: refuses(server.ports.smtp), what="a port that refuses")
        server.process.send_signal(signal.SIGTERM)  # once more changes nothing
        client.send(b"The end.\r\n.\r\n")
        assert client.getreply()[0] == 250
        assert client.getreply()[0] == 421
        assert server.process.wait(STOP_TIMEOUT) in (0, -signal.SIGTERM)
        server.process = None
        assert "Traceback" not in server.log()
    (message,) = server.messages(ALICE)
    assert message.endswith(b"The end.\n")


def refuses(port: int) -> bool:
    """Connections are refused, and not left waiting for a process that will not come."""
    try:
        with socket.create_connection(("127.0.0.1", port), 5):
            return False
    except ConnectionRefusedError:
        return True


# systemd


def unit(tmp_path: Path, name: str) -> Path:
    """A copy whose program is one that is here."""
    text = (ROOT / "etc" / name).read_text()
    made = tmp_path / name
    made.write_text(text.replace("/opt/mailserver/bin", str(Path(sys.executable).parent)))
    return made


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_the_units_are_good_units(tmp_path: Path) -> None:
    units = [unit(tmp_path, name) for name in ("mailserver.service", "mailserver.socket")]
    environment = {**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"}
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, units)], capture_output=True, text=True, env=environment
    )
    said = [line for line in (done.stdout + done.stderr).splitlines() if "mailserver" in line]
    assert said == []


def test_the_units_know_the_same_ports() -> None:
    sockets = re.findall(r"^ListenStream=.*:(\d+)$", (ROOT / "etc" / "mailserver.socket").read_text(), re.MULTILINE)
    assert sockets == ["25", "587", "465", "995", "143", "993"]
    assert "KillMode=mixed" in (ROOT / "etc" / "mailserver.service").read_text()


@pytest.mark.parametrize("workers", [1, 2])
def test_sockets_may_come_from_systemd(tmp_path: Path, workers: int) -> None:
    """As systemd hands them over: from descriptor 3 on, with their number in the environment."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        fd, port = listening.fileno(), listening.getsockname()[1]
        hand_over = (
            f"import os, sys; os.dup2({fd}, 3); os.environ['LISTEN_FDS'] = '1'; "
            "os.environ['LISTEN_FDNAMES'] = 'mailserver.socket'; os.environ['LISTEN_PID'] = str(os.getpid()); "
            "os.execv(sys.argv[1], sys.argv[1:])"
        )
        wrapper = [sys.executable, "-c", hand_over]
        server = RunningServer(tmp_path, workers=workers, wrapper=wrapper, pass_fds=[fd])
        endpoint = f"tcp:{server.ports.smtp}:interface=127.0.0.1"
        text = server.config.read_text()
        server.config.write_text(text.replace(endpoint, "systemd:domain=INET:index=0"))
        server.ports = replace(server.ports, smtp=port)
        with server:
            for _ in range(4):
                send(server)
    assert len(server.messages(ALICE)) == 4
