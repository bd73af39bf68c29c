"""The event log behind a password that is rotated, behind TLS, and behind Sentinels that name another master."""

import asyncio
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from komputer.domain.errors import Unavailable
from komputer.events import schema
from komputer.events.log import Log, LogKey, Numbered
from komputer.redis.address import Address
from tests.waiting import eventually

SERVER = shutil.which("redis-server")
pytestmark = pytest.mark.skipif(SERVER is None, reason="redis-server is not installed")
KEY = LogKey("team", "ada", "uid")
LISTENS_WITHIN_S = 20.0
Run = Callable[..., "subprocess.Popen[bytes]"]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Starts a server with these settings, and waits until it listens."""
    started: list[subprocess.Popen[bytes]] = []

    def start(port: int, *settings: str, sentinel: bool = False) -> subprocess.Popen[bytes]:
        folder = tmp_path / str(port)
        folder.mkdir(exist_ok=True)
        file = folder / "server.conf"
        file.write_text("\n".join(["bind 127.0.0.1", f"dir {folder}", 'save ""', *settings]) + "\n")
        assert SERVER
        process = subprocess.Popen(
            [SERVER, str(file), *(["--sentinel"] if sentinel else [])], stdout=subprocess.DEVNULL
        )
        started.append(process)
        deadline = time.monotonic() + LISTENS_WITHIN_S
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return process
            time.sleep(0.02)
        raise TimeoutError(port)

    yield start
    for process in started:
        process.kill()
        process.wait()


async def writes_and_reads(log: Log, task: str) -> None:
    """One task from its start to its end, with a subscriber for notifications."""
    welcome = await log.hello(KEY, old_term=0, asked=[], floor=None)
    start = schema.TaskStarted(task_id=task, instructions="x", resuming_session=False, model="m")
    assert await log.append(KEY, welcome.term, [Numbered(1, start)]) == ["ok"]
    page = await log.page("team", "ada", limit=10)
    assert task in page.entries[-1].decode()


async def test_a_rotated_password_counts_at_the_next_connection(run: Run, tmp_path: Path) -> None:
    port, password = free_port(), tmp_path / "password"
    password.write_text("first\n")
    run(port, f"port {port}", "requirepass first")
    address = Address(f"redis://127.0.0.1:{port}/0", password_file=password)
    log = Log.connect(address)
    try:
        await writes_and_reads(log, "one")
        admin: Any = Address(f"redis://:first@127.0.0.1:{port}/0").client()
        await admin.config_set("requirepass", "second")
        await admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await admin.aclose()
        with pytest.raises(Unavailable):
            await log.ping()
        password.write_text("second\n")
        await log.ping()
        rings = log.notifications()
        assert await asyncio.wait_for(anext(rings), 10) == frozenset()
        await rings.aclose()  # type: ignore[attr-defined]
    finally:
        await log.close()


def certificates(folder: Path) -> None:
    """An authority, and a certificate of 127.0.0.1 that it has signed."""
    folder.mkdir()
    openssl = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ]
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run([*openssl, *subject, *files], check=True, capture_output=True)


async def test_tls_is_spoken_to_whom_the_given_authority_vouches_for(run: Run, tmp_path: Path) -> None:
    ours, others = tmp_path / "ours", tmp_path / "others"
    certificates(ours)
    certificates(others)
    port = free_port()
    files = (f"tls-cert-file {ours / 'cert.pem'}", f"tls-key-file {ours / 'key.pem'}")
    run(port, "port 0", f"tls-port {port}", *files, "tls-auth-clients no")
    log = Log.connect(Address(f"rediss://127.0.0.1:{port}/0", ca_file=ours / "cert.pem"))
    stranger = Log.connect(Address(f"rediss://127.0.0.1:{port}/0", ca_file=others / "cert.pem"))
    try:
        await writes_and_reads(log, "one")
        with pytest.raises(Unavailable):
            await stranger.ping()
    finally:
        await log.close()
        await stranger.close()


async def test_the_master_that_sentinels_name_is_followed_when_it_changes(run: Run, tmp_path: Path) -> None:
    first, second, sentinel = free_port(), free_port(), free_port()
    password = tmp_path / "password"
    password.write_text("secret")
    auth = ("requirepass secret", "masterauth secret")
    master = run(first, f"port {first}", *auth)
    run(second, f"port {second}", f"replicaof 127.0.0.1 {first}", *auth)
    watched = (
        f"sentinel monitor komputer 127.0.0.1 {first} 1",
        "sentinel auth-pass komputer secret",
        "sentinel down-after-milliseconds komputer 5000",
        "sentinel failover-timeout komputer 2000",
    )
    run(sentinel, f"port {sentinel}", *watched, sentinel=True)
    url = f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{sentinel}/komputer/0"
    log = Log.connect(Address(url, password_file=password))
    try:
        await writes_and_reads(log, "one")
        replica: Any = Address(f"redis://:secret@127.0.0.1:{second}/0").client()
        asking: Any = Address(f"redis://127.0.0.1:{sentinel}").client()

        async def is_copied() -> bool:
            link = (await replica.info("replication")).get("master_link_status")
            return bool(link == "up" and await replica.dbsize())

        async def is_known() -> bool:
            return bool(await asking.execute_command("SENTINEL", "REPLICAS", "komputer"))

        async def goes_on() -> bool:
            try:
                await writes_and_reads(log, "two")
            except Unavailable:
                return False
            return True

        await eventually(is_copied, 30)
        await eventually(is_known, 30)
        await replica.aclose()
        await asking.aclose()
        master.kill()
        await eventually(goes_on, 40)
        texts = b"".join((await log.page("team", "ada", limit=10)).entries).decode()
        assert "one" in texts
        assert "two" in texts
    finally:
        await log.close()
