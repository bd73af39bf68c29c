"""The rules of the protocol that the log decides, one by one (`docs/architecture.md`), on a real server."""

import asyncio

import pytest

from komputer.domain.tasks import LoggedTask
from komputer.events.log import Log, LogKey, Numbered
from tests.contract.log.events import (
    KEY,
    Producer,
    cancelled,
    completed,
    everything,
    failed,
    producer,
    said,
    started,
)


async def test_exact_the_log_takes_events_of_the_term_it_issued_last_and_of_no_other(log: Log) -> None:
    old = await producer(log)
    new = Producer(log)
    new.term = old.term
    await new.hello()
    assert new.term > old.term
    assert await old.post(started("t1")) == ["fenced"]
    assert await new.post(started("t1")) == ["ok"]
    never_issued = [Numbered(1, said("t1"))]
    assert await log.append(KEY, new.term + 1, never_issued) == ["fenced"]
    assert await log.append(KEY, 0, never_issued) == ["fenced"]


async def test_exact_a_term_that_the_log_forgot_is_fenced(log: Log) -> None:
    old = await producer(log)
    await log.purge(LogKey("team", "ada", "another"))  # of no consequence
    await log.server.redis.delete(log.stream_and_live(KEY.ref)[1])
    assert await old.post(started("t1")) == ["fenced"]
    assert await log.live("team", "ada") is None, "a refused append makes no log"


async def test_fresh_each_hello_has_a_term_of_its_own_and_numbers_from_one(log: Log) -> None:
    runtime = Producer(log)
    terms = [(await runtime.hello()).term for _ in range(50)]
    assert terms == sorted(set(terms))
    assert await runtime.post(started("t1"), said("t1")) == ["ok", "ok"]
    await runtime.hello()
    assert await runtime.post(said("t1", "first under the new term")) == ["ok"]


async def test_fresh_hello_says_what_was_taken_under_the_old_term(log: Log) -> None:
    runtime = await producer(log)
    await runtime.post(started("t1"), said("t1"), said("t1"))
    welcome = await runtime.hello(["t1", "t2"])
    assert (welcome.last_seq, welcome.started, welcome.ended) == (3, ["t1"], [])
    await runtime.post(completed("t1"))
    welcome = await runtime.hello(["t1", "t2"])
    assert (welcome.last_seq, welcome.started, welcome.ended) == (1, ["t1"], ["t1"])


async def test_fresh_thirty_two_terms_are_remembered(log: Log) -> None:
    runtime = await producer(log)
    first = runtime.term
    await runtime.post(started("t1"), said("t1"))
    for _ in range(30):
        await runtime.hello()
    assert (await log.hello(KEY, old_term=first, asked=[], floor=None)).last_seq == 2
    await log.hello(KEY, old_term=0, asked=[], floor=None)
    assert (await log.hello(KEY, old_term=first, asked=[], floor=None)).last_seq == 0


async def test_fresh_a_term_is_above_the_one_that_the_runtime_had_though_the_log_forgot_it(log: Log) -> None:
    ahead = 4_000_000_000_000_000
    welcome = await log.hello(KEY, old_term=ahead, asked=[], floor=None)
    assert welcome.term == ahead + 1
    absurd = await log.hello(KEY, old_term=2**62, asked=[], floor=None)
    assert absurd.term == ahead + 2, "one that no clock gave is ignored"


async def test_duplicate_a_number_that_was_taken_is_accepted_without_effect(log: Log) -> None:
    runtime = await producer(log)
    batch = [Numbered(1, started("t1"), 1), Numbered(2, said("t1"))]
    assert await log.append(KEY, runtime.term, batch) == ["ok", "ok"]
    assert await log.append(KEY, runtime.term, [*batch, Numbered(3, said("t1"))]) == ["duplicate", "duplicate", "ok"]
    assert len(await everything(log)) == 3


async def test_hole_a_number_that_is_not_the_next_is_refused_and_nothing_after_it_is_tried(log: Log) -> None:
    runtime = await producer(log)
    await runtime.post(started("t1"))
    answers = await log.append(
        KEY, runtime.term, [Numbered(2, said("t1")), Numbered(4, said("t1")), Numbered(3, said("t1"))]
    )
    assert answers == ["ok", "gap"]
    assert len(await everything(log)) == 2


async def test_final_nothing_follows_an_end(log: Log) -> None:
    runtime = await producer(log)
    assert await runtime.post(started("t1"), completed("t1"), said("t1")) == ["ok", "ok", "ended"]
    assert await runtime.post(cancelled("t1")) == ["ended"]
    assert await runtime.post(started("t1")) == ["ended"]
    assert await log.end(KEY, failed("t1"), generation=9, floor=None) == "ended"
    assert [event["type"] for event in await everything(log)] == ["task_started", "task_completed"]


async def test_final_of_many_ends_at_once_one_is_taken(log: Log) -> None:
    runtime = await producer(log)
    await runtime.post(started("t1"))
    calls = [log.end(KEY, cancelled("t1"), generation=2, floor=None) for _ in range(20)]
    answers = await asyncio.gather(*calls, runtime.post(completed("t1")))
    flat = [answer if isinstance(answer, str) else answer[0] for answer in answers]
    assert flat.count("ok") == 1
    assert flat.count("ended") == 20
    assert len(await log.ends_after(KEY, None)) == 1


async def test_started_a_task_starts_once(log: Log) -> None:
    runtime = await producer(log)
    await runtime.post(started("t1"))
    await runtime.hello()
    assert await runtime.post(started("t1")) == ["started"]
    assert await log.end(KEY, failed("t1"), generation=1, floor=None, unless_started=True) == "started"
    assert await log.end(KEY, failed("t2"), generation=1, floor=None, unless_started=True) == "ok"


async def test_fence_a_start_of_an_older_generation_than_one_seen_is_refused(log: Log) -> None:
    runtime = await producer(log)
    assert await runtime.post(started("t1"), generation=5) == ["ok"]
    assert await runtime.post(completed("t1")) == ["ok"]
    assert await runtime.post(started("t0"), generation=4) == ["stale"]
    assert await runtime.post(started("t2"), generation=5) == ["ok"]


async def test_fence_an_end_of_the_operator_carries_its_generation(log: Log) -> None:
    runtime = await producer(log)
    assert await log.end(KEY, cancelled("t1"), generation=7, floor=None) == "ok"
    assert await runtime.post(started("t0"), generation=6) == ["stale"]
    assert await runtime.post(started("t0"), generation=None) == ["ok"], "a start that is repeated has none"


async def test_the_order_of_the_checks(log: Log) -> None:
    """Term, number, gap, ended, started, stale: each refusal hides those behind it."""
    runtime = await producer(log)
    await runtime.post(started("t1"), completed("t1"), started("t2"), generation=5)
    term = runtime.term
    assert await log.append(KEY, term - 1, [Numbered(1, started("t1"), 1)]) == ["fenced"]
    assert await log.append(KEY, term, [Numbered(3, started("t1"), 1)]) == ["duplicate"]
    assert await log.append(KEY, term, [Numbered(9, started("t1"), 1)]) == ["gap"]
    assert await log.append(KEY, term, [Numbered(4, started("t1"), 1)]) == ["ended"]
    assert await log.append(KEY, term, [Numbered(4, started("t2"), 1)]) == ["started"]
    assert await log.append(KEY, term, [Numbered(4, started("t3"), 1)]) == ["stale"]


async def test_adopt_hello_names_every_open_task(log: Log) -> None:
    runtime = await producer(log)
    await runtime.post(started("t1"), completed("t1"), started("t2"), started("t3"))
    stranger = Producer(log)
    welcome = await stranger.hello()
    assert sorted(welcome.open) == ["t2", "t3"]
    await stranger.post(failed("t2"))
    assert (await stranger.hello()).open == ["t3"]


async def test_open_the_end_of_another_task_leaves_the_open_ones_live_state_alone(log: Log) -> None:
    runtime = await producer(log)
    await runtime.post(started("t1"), said("t1", "at work"))
    before = await log.live("team", "ada")
    assert await log.end(KEY, cancelled("t0"), generation=1, floor=None) == "ok"
    after = await log.live("team", "ada")
    assert before
    assert after
    assert after.task == LoggedTask("t1", False)
    assert (after.message, after.task_status, after.outcome) == ("at work", "InProgress", None)
    assert after.last_id != before.last_id
    await runtime.post(completed("t1"))
    await log.end(KEY, cancelled("t4"), generation=1, floor=None)
    last = await log.live("team", "ada")
    assert last
    assert last.task == LoggedTask("t4", True)


async def test_the_live_state_follows_the_task(log: Log) -> None:
    assert await log.live("team", "ada") is None
    runtime = await producer(log)
    fresh = await log.live("team", "ada")
    assert fresh
    assert (fresh.uid, fresh.task, fresh.task_status, fresh.last_id) == ("uid-1", LoggedTask(None, False), None, None)
    await runtime.post(started("t1"))
    begun = await log.live("team", "ada")
    assert begun
    assert (begun.task, begun.task_status, begun.message) == (LoggedTask("t1", False), "InProgress", "do t1")
    assert (begun.term, begun.seen_us >= fresh.seen_us) == (runtime.term, True)
    await runtime.post(completed("t1"))
    done = await log.live("team", "ada")
    assert done
    assert (done.task, done.task_status, done.outcome) == (LoggedTask("t1", True), "Complete", "completed")
    assert (done.message, done.session_id) == ("t1 is done", "s1")
    await runtime.post(started("t2"), failed("t2"))
    wrong = await log.live("team", "ada")
    assert wrong
    assert (wrong.task_status, wrong.outcome, wrong.session_id) == ("Error", "error", "s1")
    newest = (await everything(log))[-1]
    assert (wrong.last_id, wrong.last_at) == (newest["id"], newest["timestamp"])


async def test_a_pulse_returns_what_the_log_holds_and_records_a_sign_of_life(log: Log) -> None:
    runtime = await producer(log)
    await runtime.post(started("t1"), completed("t1"))
    before = await log.live("team", "ada")
    pulse = await log.pulse(KEY, runtime.term, ["t1", "t2"])
    after = await log.live("team", "ada")
    assert (pulse.term, pulse.last_seq, pulse.ended) == (runtime.term, 2, ["t1"])
    assert before
    assert after
    assert after.seen_us > before.seen_us


async def test_a_pulse_of_an_older_runtime_or_another_uid_records_nothing(log: Log) -> None:
    old = await producer(log)
    await old.post(started("t1"))
    await producer(log)
    before = await log.live("team", "ada")
    pulse = await log.pulse(KEY, old.term, [])
    assert pulse.term > old.term
    assert pulse.last_seq == 1
    nobody = await log.pulse(LogKey("team", "ada", "uid-2"), old.term, ["t1"])
    assert (nobody.term, nobody.last_seq, nobody.ended) == (0, 0, [])
    assert await log.live("team", "ada") == before
    assert (await log.pulse(LogKey("team", "bob", "uid-3"), 5, [])).term == 0
    assert await log.live("team", "bob") is None


async def test_a_pulse_without_a_term_is_about_the_newest_and_records_nothing(log: Log) -> None:
    runtime = await producer(log)
    await runtime.post(started("t1"), said("t1"))
    before = await log.live("team", "ada")
    pulse = await log.pulse(KEY, 0, [])
    assert (pulse.term, pulse.last_seq) == (runtime.term, 2)
    assert await log.live("team", "ada") == before


async def test_ends_stay_until_the_operator_trims_them(log: Log) -> None:
    runtime = await producer(log)
    await runtime.post(started("t1"), completed("t1", 0.5), started("t2"), said("t2"), failed("t2"))
    first, second = await log.ends_after(KEY, None)
    assert (first.type, first.payload["cost_usd"], second.payload["task_id"]) == ("task_completed", 0.5, "t2")
    shown = {event["id"]: event for event in await everything(log)}
    assert shown[first.id]["payload"] == first.payload
    assert shown[first.id]["timestamp"] == first.timestamp
    assert await log.ends_after(KEY, first.id) == [second]
    await log.trim_ends(LogKey("team", "ada", "uid-2"), second.id)
    await log.trim_ends(KEY, first.id)
    assert await log.ends_after(KEY, None) == [second]
    assert len(await everything(log)) == 5
    assert await log.ends_after(LogKey("team", "ada", "uid-2"), None) == []


@pytest.mark.parametrize("count", [1100])
async def test_a_thousand_tasks_are_kept_and_a_dropped_one_does_not_look_open(log: Log, count: int) -> None:
    runtime = await producer(log)
    for i in range(0, count, 100):
        batch = [event for j in range(i, i + 100) for event in (started(f"t{j}"), completed(f"t{j}"))]
        assert set(await runtime.post(*batch)) == {"ok"}
    assert (await runtime.hello([f"t{count - 1}", "t0"])).ended == [f"t{count - 1}"]
    assert (await runtime.hello()).open == []


async def test_a_task_whose_end_was_dropped_does_not_look_open(log: Log) -> None:
    runtime = await producer(log)
    await runtime.post(started("t1"), completed("t1"))
    assert set(await runtime.post(*(cancelled(f"never-started-{i}") for i in range(1000)))) == {"ok"}
    assert (await runtime.hello(["t1"])).ended == []
    assert (await runtime.hello()).open == []


async def test_of_tasks_that_never_end_the_newest_thousand_are_remembered(log: Log) -> None:
    runtime = await producer(log)
    assert set(await runtime.post(*(started(f"t{i}") for i in range(1100)))) == {"ok"}
    assert len((await runtime.hello()).open) == 1000


async def test_ids_increase_and_never_lie_below_the_status(log: Log) -> None:
    ahead = 4_000_000_000_000
    runtime = Producer(log, floor=f"{ahead}-998")
    await runtime.hello()
    await runtime.post(started("t1"), said("t1"), said("t1"))
    events = await everything(log)
    assert [event["id"] for event in events] == [f"{ahead}-999", f"{ahead + 1}-0", f"{ahead + 1}-1"]
    assert [event["timestamp"] for event in events] == [
        "2096-10-02T07:06:40.000999Z",
        "2096-10-02T07:06:40.001000Z",
        "2096-10-02T07:06:40.001001Z",
    ]
