"""Acknowledged writes survive `kill -9` of the server. A server that does not answer is an error that says what to
do."""

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from komputer.domain.errors import Unavailable
from komputer.events.log import Log, LogKey, Numbered
from tests.contract.log.events import KEY, completed, everything, producer, said, started
from tests.fixtures.valkey import LogServer, engines, server_of


@pytest.mark.parametrize(("engine", "fsync"), [(e, "always") for e in engines()] + [("valkey", "everysec")])
async def test_durable_every_start_and_end_that_was_answered_is_there_after_kill_9(engine: str, fsync: str) -> None:
    with TemporaryDirectory(dir="/tmp") as folder:
        server = server_of(engine, Path(folder) / "data", fsync=fsync).start()
        log = Log.connect(server.url)
        answered: list[tuple[str, str]] = []

        async def work(agent: int) -> None:
            runtime = await producer(log, LogKey("team", f"agent-{agent}", "u"))
            for i in range(40):
                for kind, event in (("task_started", started(f"t{i}")), ("task_completed", completed(f"t{i}"))):
                    assert await runtime.post(event, *[said(f"t{i}")] * (kind == "task_started")) != ["fenced"]
                    answered.append((f"agent-{agent}", f"{kind} t{i}"))
                    if len(answered) == 60:
                        server.kill()

        results = await asyncio.gather(*(work(i) for i in range(5)), return_exceptions=True)
        assert all(isinstance(result, Unavailable) for result in results), results
        server.start()
        found = {
            (f"agent-{i}", f"{event['type']} {event['payload']['task_id']}")
            for i in range(5)
            for event in await everything(log, LogKey("team", f"agent-{i}", "u"))
        }
        assert len(answered) >= 60
        assert set(answered) <= found
        await log.close()
        server.stop()


async def test_how_a_server_gets_things_to_its_disk_is_known_after_the_first_start(server: LogServer, log: Log) -> None:
    runtime = await producer(log)
    assert log.durability is None
    await runtime.post(said("t1"))
    assert log.durability is None, "only starts and ends wait"
    await runtime.post(started("t1"))
    assert log.durability == ("waits" if "valkey" in server.binary else "always")


@pytest.mark.parametrize("engine", engines())
async def test_a_server_without_persistence_is_logged_and_still_works(
    engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with TemporaryDirectory(dir="/tmp") as folder:
        server = server_of(engine, Path(folder) / "data", fsync="no").start()
        log = Log.connect(server.url)
        await log.server.redis.config_set("appendonly", "no")
        runtime = await producer(log)
        assert await runtime.post(started("t1"), completed("t1")) == ["ok", "ok"]
        assert await runtime.post(started("t2")) == ["ok"]
        assert log.durability == "none"
        assert capsys.readouterr().out.count("event log may lose its last second in a crash") == 1
        await log.close()
        server.stop()


async def test_a_server_that_is_away_is_unavailable_and_repeating_is_safe() -> None:
    with TemporaryDirectory(dir="/tmp") as folder:
        server = server_of("valkey", Path(folder) / "data")
        log = Log.connect(server.url)
        for call in (log.ping(), log.live("team", "ada"), log.page("team", "ada", limit=1), log.purge(KEY)):
            with pytest.raises(Unavailable) as refused:
                await call
            assert refused.value.code == "log_unavailable"
        server.start()
        await log.ping()
        runtime = await producer(log)
        batch = [Numbered(1, started("t1"), 1), Numbered(2, said("t1"))]
        assert await log.append(KEY, runtime.term, batch) == ["ok", "ok"]
        server.kill()
        with pytest.raises(Unavailable):
            await log.append(KEY, runtime.term, batch)
        server.start()
        assert await log.append(KEY, runtime.term, batch) == ["duplicate", "duplicate"]
        await log.close()
        server.stop()
