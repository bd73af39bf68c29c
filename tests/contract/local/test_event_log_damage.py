"""Valkey's append-only file after power cuts and bad disks: what can be read is served again, nothing else is."""

import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from komputer.local import aof
from tests.fixtures.valkey import LogServer, server_of

APPEND = "redis.call('XADD', KEYS[1], ARGV[1], 'event', ARGV[2]); redis.call('HSET', KEYS[2], 'last', ARGV[1])"
EVENTS = 60
ROUNDS = 6
"""Places that each kind of damage is tried at; each costs one start of the server."""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a server has written events, as it lies there after `kill -9`."""
    server = server_of("valkey", tmp_path_factory.mktemp("written") / "d").start()
    client = Redis.from_url(server.url)
    for n in range(1, EVENTS + 1):
        client.eval(APPEND, 2, "events", "live", f"{n}-1", f"event {n}: \u2028\0*1\r\n" + "x" * (n * 7))
    client.close()
    server.kill()
    return server.folder


@pytest.fixture
def log(written: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "d"
    shutil.copytree(written, folder, ignore=shutil.ignore_patterns("s"))
    return folder


def increment(folder: Path) -> Path:
    (found,) = (folder / aof.FOLDER).glob("*.incr.aof")
    return found


def served(folder: Path) -> list[int]:
    """The numbers of the events that a server finds; the live hash must fit to them."""
    server = LogServer(server_of("valkey", folder).binary, folder).start()
    try:
        client: Any = Redis.from_url(server.url, decode_responses=True)
        found = [int(identity.partition("-")[0]) for identity, _ in client.xrange("events")]
        last = client.hget("live", "last")
        client.close()
    finally:
        server.stop()
    assert last == (f"{found[-1]}-1" if found else None), "an event and what was written with it come together"
    return found


def test_a_sound_log_has_no_damage(log: Path) -> None:
    assert aof.find_damage(log) is None
    assert served(log) == list(range(1, EVENTS + 1))
    assert aof.find_damage(log / "empty") is None, "nothing was written yet"


@pytest.mark.parametrize("kind", ["truncated", "zeros to the end", "garbage to the end"])
def test_a_torn_end_is_cut_off_and_a_copy_is_kept(log: Path, kind: str) -> None:
    file, whole = increment(log), increment(log).read_bytes()
    chance = random.Random(kind)
    for _ in range(ROUNDS):
        at = chance.randrange(1, len(whole))
        rest = {"truncated": b"", "zeros to the end": bytes(len(whole) - at)}.get(
            kind, chance.randbytes(len(whole) - at)
        )
        file.write_bytes(whole[:at] + rest)
        damage = aof.find_damage(log)
        if damage is not None:  # else the cut was between two commands
            assert damage.is_torn_end, (at, damage)
            copy = aof.cut(log, damage)
            assert (copy / file.name).read_bytes() == whole[:at] + rest
        found = served(log)
        assert found == list(range(1, len(found) + 1))
        assert len(found) == whole[:at].upper().count(b"$4\r\nEXEC\r\n"), "every whole transaction is kept"


def test_damage_in_the_middle_is_not_repaired_without_being_asked(log: Path) -> None:
    file, whole = increment(log), increment(log).read_bytes()
    chance = random.Random("middle")
    seen = 0
    for _ in range(ROUNDS):
        at = chance.randrange(100, len(whole) * 3 // 4)
        file.write_bytes(whole[:at] + bytes(64) + whole[at + 64 :])
        damage = aof.find_damage(log)
        if damage is None:  # inside of an event's text, which has no checksum
            continue
        seen += 1
        assert not damage.is_torn_end
        assert damage.offset is not None
        assert damage.offset <= at
        aof.cut(log, damage)
        found = served(log)
        assert found == list(range(1, len(found) + 1))
    assert seen


def test_a_lost_manifest_is_derived_from_the_files(log: Path) -> None:
    manifest = aof.manifest_path(log)
    for content in (None, b"", bytes(200), b"file x seq"):
        manifest.unlink() if content is None else manifest.write_bytes(content)
        assert aof.check_files(log) is None
        assert served(log) == list(range(1, EVENTS + 1))


def test_a_missing_part_is_damage_and_nothing_is_served_silently(log: Path) -> None:
    for part in ("base", "incr"):
        (file,) = (log / aof.FOLDER).glob(f"*.{part}.*")
        content = file.read_bytes()
        file.unlink()
        damage = aof.check_files(log)
        assert damage is not None
        assert damage.offset is None
        file.write_bytes(content)
    (file,) = (log / aof.FOLDER).glob("*.incr.*")
    aof.manifest_path(log).unlink()
    file.unlink()
    damage = aof.check_files(log)
    assert damage is not None, "without manifest and increments the server would begin anew without a word"
    aside = aof.cut(log, damage)
    assert list(aside.glob("*.base.*"))
    assert served(log) == []


def test_a_damaged_snapshot_is_damage(log: Path) -> None:
    (base,) = (log / aof.FOLDER).glob("*.base.rdb")
    base.write_bytes(base.read_bytes()[:-4])
    damage = aof.find_damage(log)
    assert damage is not None
    assert (damage.file, damage.offset) == (base, None)


def test_what_follows_a_damaged_increment_is_not_applied_without_it(log: Path) -> None:
    first = increment(log)
    second = first.with_name("appendonly.aof.2.incr.aof")
    whole = first.read_bytes()
    second.write_bytes(
        b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n"
        + b"*5\r\n$4\r\nXADD\r\n$6\r\nevents\r\n$4\r\n99-1\r\n$5\r\nevent\r\n$1\r\nx\r\n"
    )
    aof.manifest_path(log).write_text(aof.manifest_path(log).read_text() + f"file {second.name} seq 2 type i\n")
    assert aof.find_damage(log) is None
    first.write_bytes(whole[: len(whole) - 40])
    damage = aof.find_damage(log)
    assert damage is not None
    assert not damage.is_torn_end
    aside = aof.cut(log, damage)
    assert (aside / second.name).exists()
    assert 99 not in served(log)
