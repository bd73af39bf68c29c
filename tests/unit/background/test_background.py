"""Background work that fails is tried again, and says why."""

import asyncio
import errno
import logging

import pytest

from komputer import background
from komputer.background import Background, reason_of, retried
from komputer.backoff import Backoff
from tests.waiting import eventually


async def test_a_loop_that_raises_returns_or_is_cancelled_from_within_is_started_again() -> None:
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

    seen: list[str | None] = []
    async with Background(Backoff(0.001, 10.0)) as work:
        task = work.keep("the loop", loop, seen.append)
        async with asyncio.timeout(10):
            await runs.wait()
        assert not task.done()
        assert seen == [
            "No space left on device: /data/x",
            "RuntimeError: a defect",
            "the loop ended, and must not",
            "CancelledError",
        ]
        assert work.problem == "background work fails and is tried again: the loop: CancelledError"
    assert task.cancelled()
    assert work.problem is None


async def test_a_job_is_tried_until_it_succeeds_and_its_reason_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    left = [OSError(errno.ENOSPC, "No space left on device")] * 5
    seen: list[str | None] = []

    async def job() -> str:
        if left:
            raise left.pop()
        return "done"

    with caplog.at_level(logging.INFO, logger="komputer.background"):
        assert await retried("the job", job, seen.append, Backoff(0.001, 10.0)) == "done"
    assert seen == ["No space left on device", None]
    assert [record.getMessage() for record in caplog.records] == [
        "background work failed: the job: No space left on device",
        "background work goes on: the job",
    ]


async def test_a_loop_that_has_run_for_a_while_is_no_longer_shown_as_failing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "STEADY_S", 0.05)
    failed = False

    async def loop() -> None:
        nonlocal failed
        if not failed:
            failed = True
            raise ValueError("once")
        await asyncio.Event().wait()

    async with Background(Backoff(0.001, 10.0)) as work:
        work.keep("the loop", loop)
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
        await retried("the job", job)
    assert slept[:4] == [0.1, 0.2, 0.4, 0.8]
    assert max(slept) == 10.0


def test_a_reason_is_one_line_without_our_types() -> None:
    assert reason_of(ExceptionGroup("x", [ExceptionGroup("y", [KeyError("k")])])) == "KeyError: 'k'"
    assert reason_of(TimeoutError()) == "TimeoutError"


async def test_work_that_fails_while_it_is_cancelled_is_not_started_again() -> None:
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


async def test_a_loop_whose_task_group_fails_is_started_again() -> None:
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
        background.keep("a loop", loop)
        await again.wait()
