"""Speaking to the running task: what the log takes, keeps for the runtime, and lets no end overtake."""

import pytest

from komputer.events.log import Log, LogKey, Numbered
from tests.contract.log.events import KEY, Producer, cancelled, completed, everything, failed, producer, said, started


async def running(log: Log) -> Producer:
    runtime = await producer(log)
    assert await runtime.post(started("t1")) == ["ok"]
    return runtime


async def say(log: Log, content: str) -> str:
    said_now = await log.message(KEY, "t1", content)
    assert said_now is not None
    assert said_now.task_id == "t1"
    return said_now.id


async def complete(runtime: Producer, heard: str | None) -> str:
    (answer,) = await runtime.log.append(
        runtime.key, runtime.term, [Numbered(runtime.n + 1, completed("t1"), None, heard)]
    )
    return answer


async def test_a_message_is_an_event_in_order_and_is_kept_for_the_runtime(log: Log) -> None:
    runtime = await running(log)
    first = await say(log, "one")
    await runtime.post(said("t1"))
    second = await say(log, "two")
    events = await everything(log)
    assert [event["type"] for event in events] == ["task_started", "user_message", "text", "user_message"]
    assert [events[1]["id"], events[3]["id"]] == [first, second]
    kept = await log.messages(KEY, None)
    assert [(each.id, each.payload["content"]) for each in kept] == [(first, "one"), (second, "two")]
    assert [each.id for each in await log.messages(KEY, first)] == [second]


async def test_a_message_is_kept_though_its_event_is_trimmed(short_log: Log) -> None:
    runtime = await running(short_log)
    await short_log.message(KEY, "t1", "one")
    for _ in range(15):
        await runtime.post(said("t1"))
    assert [each.payload["content"] for each in await short_log.messages(KEY, None)] == ["one"]


@pytest.mark.parametrize("task", ["t1", "t2"])
async def test_only_the_task_that_runs_is_spoken_to(log: Log, task: str) -> None:
    runtime = await producer(log)
    assert await log.message(KEY, task, "before it begins") is None
    await runtime.post(started("t1"))
    if task == "t2":
        assert await log.message(KEY, task, "another") is None
    assert await log.message(LogKey("team", "ada", "uid-2"), "t1", "another agent of this name") is None
    await runtime.post(completed("t1"))
    assert await log.message(KEY, task, "too late") is None
    assert [event["type"] for event in await everything(log)] == ["task_started", "task_completed"]


async def test_unheard_a_completion_does_not_overtake_a_message(log: Log) -> None:
    runtime = await running(log)
    first = await say(log, "one")
    assert await complete(runtime, "0-0") == "unacknowledged"
    second = await say(log, "two")
    assert await complete(runtime, first) == "unacknowledged"
    assert await complete(runtime, second) == "ok"
    assert await log.messages(KEY, None) == []
    assert await log.message(KEY, "t1", "three") is None


async def test_unheard_takes_no_number(log: Log) -> None:
    runtime = await running(log)
    await log.message(KEY, "t1", "one")
    assert await complete(runtime, "0-0") == "unacknowledged"
    assert await runtime.post(said("t1")) == ["ok"]


@pytest.mark.parametrize("end", [cancelled("t1"), failed("t1"), completed("t1")])
async def test_an_end_without_an_acknowledged_message_is_always_accepted(log: Log, end: object) -> None:
    runtime = await running(log)
    await log.message(KEY, "t1", "one")
    assert await runtime.post(end) == ["ok"]  # type: ignore[arg-type]
    assert await log.messages(KEY, None) == []


async def test_the_next_task_begins_without_the_messages_of_the_last(log: Log) -> None:
    runtime = await running(log)
    await log.message(KEY, "t1", "one")
    await runtime.post(completed("t1"), started("t2"))
    assert await log.messages(KEY, None) == []
    answers = await log.append(KEY, runtime.term, [Numbered(runtime.n + 1, completed("t2"), None, "0-0")])
    assert answers == ["ok"]


async def test_a_request_that_comes_again_says_nothing_new(log: Log) -> None:
    """As after a crash of the API between the write and its response; also after the task has ended."""
    runtime = await running(log)
    first = await log.message(KEY, "t1", "one", "request-1")
    assert await log.message(KEY, "t1", "two", "request-2") != first
    assert await log.message(KEY, "t1", "one", "request-1") == first
    assert [each.payload["content"] for each in await log.messages(KEY, None)] == ["one", "two"]
    await runtime.post(failed("t1"))
    assert await log.message(KEY, "t1", "one", "request-1") == first
    assert await log.message(KEY, "t1", "one", "request-3") is None
    assert [event["type"] for event in await everything(log)] == [
        "task_started",
        "user_message",
        "user_message",
        "error",
    ]
