import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

from prometheus_client import REGISTRY

from komputer.backoff import Backoff
from komputer.domain.errors import Unavailable
from komputer.operator.queue import Queue

WITHIN_S = 10.0
Work = Callable[[str], Awaitable[timedelta | None]]


@contextlib.asynccontextmanager
async def running(queue: Queue[str], work: Work) -> AsyncIterator[None]:
    task = asyncio.create_task(queue.run(work))
    try:
        async with asyncio.timeout(WITHIN_S):
            yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_one_key_has_one_turn_at_a_time_and_others_go_on_beside_it() -> None:
    queue: Queue[str] = Queue("test")
    open_gate, turns, beside = asyncio.Event(), asyncio.Queue[str](), 0

    async def work(key: str) -> None:
        nonlocal beside
        beside += key == "ada"
        assert beside <= 1
        turns.put_nowait(key)
        if key == "ada":
            await open_gate.wait()
        beside -= key == "ada"

    async with running(queue, work):
        queue.wake("ada")
        assert await turns.get() == "ada"
        queue.wake("ada")
        queue.wake("ada")
        queue.wake("eve")
        assert await turns.get() == "eve"
        open_gate.set()
        assert await turns.get() == "ada", "what woke it meanwhile gives it one more turn"
        queue.wake("bob")
        assert await turns.get() == "bob"
        assert turns.empty()


async def test_a_key_comes_again_when_it_asked_to_or_when_something_wakes_it_before() -> None:
    queue: Queue[str] = Queue("test")
    turns = asyncio.Queue[str]()
    answers: list[timedelta | None] = [timedelta(milliseconds=1), timedelta(days=1), None]

    async def work(key: str) -> timedelta | None:
        turns.put_nowait(key)
        return answers.pop(0)

    async with running(queue, work):
        queue.wake("ada")
        await turns.get()
        await turns.get()
        queue.wake("ada")
        queue.wake("ada", timedelta(days=2))
        await turns.get()
    assert answers == []


async def test_a_key_that_rings_all_the_time_is_held_back_but_not_from_what_is_urgent() -> None:
    queue: Queue[str] = Queue("test")
    turns, loop = asyncio.Queue[tuple[str, float]](), asyncio.get_running_loop()

    async def work(key: str) -> None:
        turns.put_nowait((key, loop.time()))

    async with running(queue, work):
        queue.wake("ada", min_interval=timedelta(hours=1))
        _, first = await turns.get()
        queue.wake("ada", min_interval=timedelta(milliseconds=200))
        _, second = await turns.get()
        assert second - first >= 0.1
        queue.wake("ada", min_interval=timedelta(hours=1))
        queue.wake("eve")
        assert (await turns.get())[0] == "eve"
        assert turns.empty()
        queue.wake("ada")
        assert (await turns.get())[0] == "ada"


async def test_a_failed_turn_is_tried_again_and_stops_nobody_else() -> None:
    queue: Queue[str] = Queue("test", backoff=Backoff(0.001, 30.0))
    turns, failures = asyncio.Queue[str](), [Unavailable("away"), RuntimeError("a defect")]

    async def work(key: str) -> None:
        turns.put_nowait(key)
        if key == "ada" and failures:
            raise failures.pop()

    async with running(queue, work):
        queue.wake("ada")
        queue.wake("eve")
        found = [await turns.get() for _ in range(4)]
    assert sorted(found) == ["ada", "ada", "ada", "eve"]


async def test_turns_are_counted_by_their_end() -> None:
    queue: Queue[str] = Queue("counted", backoff=Backoff(0.001, 30.0))
    outcomes: list[Exception | timedelta | None] = [Unavailable("away"), timedelta(0), None]
    done = asyncio.Event()

    async def work(key: str) -> timedelta | None:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        if outcome is None:
            done.set()
        return outcome

    async with running(queue, work):
        queue.wake("ada")
        await done.wait()
        await asyncio.sleep(0)
        assert count("workqueue_depth", name="counted") == 0
    for result in ("error", "requeue_after", "success"):
        assert count("controller_runtime_reconcile_total", controller="counted", result=result) == 1
    assert count("controller_runtime_reconcile_time_seconds_count", controller="counted") == 3
    assert count("workqueue_queue_duration_seconds_count", name="counted") == 3


def count(metric: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(metric, labels)


async def test_only_so_many_keys_are_worked_on_side_by_side() -> None:
    queue: Queue[str] = Queue("test", concurrency=2)
    gate, begun = asyncio.Event(), asyncio.Queue[str]()

    async def work(key: str) -> None:
        begun.put_nowait(key)
        await gate.wait()

    async with running(queue, work):
        for key in "abc":
            queue.wake(key)
        await begun.get()
        await begun.get()
        await asyncio.sleep(0)
        assert begun.empty()
        gate.set()
        assert await begun.get() == "c"
