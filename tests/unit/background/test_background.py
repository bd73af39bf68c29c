"""Background work that fails is retried and reports the reason."""

import asyncio
import errno
import logging

import pytest

from komputer import background
from komputer.background import Background, reason_of, retry
from komputer.backoff import Backoff
from tests.waiting import eventually


async def test_a_loop_that_raises_returns_or_cancels_itself_is_restarted() -> None:
    attempts = 0
    runs = asyncio.Event()

    async def loop() -> None:
        nonlocal attempts
        attempts += 1
        match attempts:
            case 1:
                raise OSError(errno.ENOSPC, "No space left on device", "/data/x")
            case 2:
                raise ExceptionGroup("several", [RuntimeError("a defect")])
            case 3:
                return
            case 4:
                raise asyncio.CancelledError
        runs.set()
        await asyncio.Event().wait()

    reported: list[str | None] = []
    async with Background(Backoff(0.001, 10.0)) as work:
        task = work.run_forever("the loop", loop, reported.append)
        async with asyncio.timeout(10):
            await runs.wait()
        assert not task.done()
        assert reported == [
            "No space left on device: /data/x",
            "RuntimeError: a defect",
            "the loop ended unexpectedly",
            "CancelledError",
        ]
        assert work.problem == "background work fails and is retried: the loop: CancelledError"
    assert task.cancelled()
    assert work.problem is None


async def test_a_job_is_retried_until_it_succeeds_and_each_reason_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    left = [OSError(errno.ENOSPC, "No space left on device")] * 5
    reported: list[str | None] = []

    async def job() -> str:
        if left:
            raise left.pop()
        return "done"

    with caplog.at_level(logging.INFO, logger="komputer.background"):
        assert await retry("the job", job, reported.append, Backoff(0.001, 10.0)) == "done"
    assert reported == ["No space left on device", None]
    assert [record.getMessage() for record in caplog.records] == [
        "background work failed: the job: No space left on device",
        "background work recovered: the job",
    ]


async def test_a_loop_that_has_run_for_a_while_no_longer_counts_as_failing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "RECOVERED_AFTER_S", 0.05)
    failed = False

    async def loop() -> None:
        nonlocal failed
        if not failed:
            failed = True
            raise ValueError("once")
        await asyncio.Event().wait()

    async with Background(Backoff(0.001, 10.0)) as work:
        work.run_forever("the loop", loop)
        await eventually(lambda: work.problem)
        await eventually(lambda: work.problem is None)


async def test_pauses_grow_and_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 12:
            raise KeyboardInterrupt

    async def job() -> None:
        raise ValueError

    monkeypatch.setattr(asyncio, "sleep", sleep)
    with pytest.raises(KeyboardInterrupt):
        await retry("the job", job)
    assert slept[:4] == [0.1, 0.2, 0.4, 0.8]
    assert max(slept) == 10.0


def test_a_reason_is_one_line_without_exception_groups() -> None:
    assert reason_of(ExceptionGroup("x", [ExceptionGroup("y", [KeyError("k")])])) == "KeyError: 'k'"
    assert reason_of(TimeoutError()) == "TimeoutError"


async def test_work_that_fails_while_it_is_cancelled_is_not_restarted() -> None:
    begun = asyncio.Event()

    async def job() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            raise OSError(errno.EIO, "broken while it ended")

    async with asyncio.timeout(10):
        async with Background() as work:
            task = work.run("the job", job)
            await begun.wait()
        assert task.cancelled()


async def test_a_loop_whose_task_group_fails_is_restarted() -> None:
    begun = 0
    again = asyncio.Event()

    async def fails() -> None:
        await asyncio.sleep(0)
        raise KeyError("metadata")

    async def loop() -> None:
        nonlocal begun
        begun += 1
        if begun == 3:
            again.set()
        async with asyncio.TaskGroup() as group:
            group.create_task(fails())

    async with Background(Backoff(0.001, 10.0)) as background, asyncio.timeout(30):
        background.run_forever("a loop", loop)
        await again.wait()
