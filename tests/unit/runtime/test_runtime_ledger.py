"""The runtime's side of the protocol: rules and steps of its model, by name."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from komputer.events.schema import AgentText, TaskCancelled, TaskCompleted, TaskFailed
from komputer.protocol import wire
from komputer.runtime.ledger import rules
from komputer.runtime.ledger.ledger import Claim, Ledger, OpenTask, Outgoing
from tests.unit.runtime.reference import UID, World

TASK = OpenTask(
    id="t1",
    instructions="do it",
    generation=3,
    settings=wire.TaskSettings(model="m", role="worker"),
    session_id="s1",
    is_resuming=False,
    prompt_uuid="u1",
    started_at=100.0,
)
DONE = TaskCompleted(task_id="t1", result="done", cost_usd=0.5, duration_ms=1, turns=1)


def introduced(ledger: Ledger | None = None, **welcome: object) -> Ledger:
    answer = {"uid": UID, "term": 7, "last_seq": 0, "started": [], "ended": [], "open": [], **welcome}
    return rules.after_hello(ledger or Ledger(), wire.Welcome.model_validate(answer), ())


def opened() -> Ledger:
    return rules.with_task(introduced(), TASK)


def running() -> Ledger:
    """The log has the start."""
    return rules.after_post(opened(), "ok")


def assignment(**changes: object) -> wire.Assignment:
    given = {"uid": UID, "name": "ada", "namespace": "team", "generation": 3, **changes}
    return wire.Assignment.model_validate({"settings": {"model": "m", "role": "worker"}, **given})


def kinds(ledger: Ledger) -> list[tuple[int, str, str]]:
    return [(entry.seq, entry.task_id, entry.type) for entry in ledger.outbox]


def codes(ledger: Ledger) -> list[object]:
    return [entry.payload.get("code") for entry in ledger.outbox]


def test_wait_start_the_prompt_waits_for_the_log() -> None:
    assert not rules.is_started(opened(), "t1")
    assert rules.is_started(running(), "t1")
    assert not rules.is_started(running(), "t2")


def test_a_task_is_begun_once_and_only_when_all_of_the_last_one_is_in_the_log() -> None:
    wants = assignment(task={"id": "t1", "instructions": "do it"})
    assert rules.next_task(introduced(), wants) == wants.task
    assert rules.next_task(Ledger(uid=UID), wants) is None, "before the first hello"
    assert rules.next_task(opened(), assignment(task={"id": "t2", "instructions": "x"})) is None
    over = rules.after_post(rules.with_end(running(), DONE), "ok")
    counted = rules.after_assignment(over, assignment(accounted=["t1"]))
    assert not counted.owed
    assert rules.next_task(counted, wants) is None, "closed, though this assignment is from before"
    following = assignment(task={"id": "t2", "instructions": "x"})
    assert rules.next_task(over, following) == following.task
    assert rules.next_task(introduced(), assignment(task={"id": "t1", "instructions": "x"}, accounted=["t1"])) is None


def test_an_older_assignment_and_one_of_another_agent_change_nothing() -> None:
    seen = rules.after_assignment(introduced(), assignment(generation=5))
    old = assignment(generation=4, task={"id": "t1", "instructions": "x"})
    assert rules.after_assignment(seen, old) == seen
    assert rules.next_task(seen, old) is None
    assert rules.next_task(seen, assignment(uid="uid-2", generation=9, task={"id": "t1", "instructions": "x"})) is None


def test_a_cancel_hits_only_the_task_that_it_names() -> None:
    assert rules.is_cancelled(running(), assignment(cancelTaskID="t1"))
    assert not rules.is_cancelled(running(), assignment(cancelTaskID="t0"))
    assert not rules.is_cancelled(introduced(), assignment(cancelTaskID="t1"))
    assert not rules.is_cancelled(rules.with_end(running(), DONE), assignment(cancelTaskID="t1"))
    assert not rules.is_cancelled(replace(running(), generation=9), assignment(cancelTaskID="t1"))


def test_owe_an_end_is_owed_until_it_is_accounted() -> None:
    over = rules.after_post(rules.with_end(running(), DONE), "ok")
    assert over.task is None
    assert list(over.owed) == ["t1"]
    assert rules.after_assignment(over, assignment()).owed
    assert not rules.after_assignment(over, assignment(accounted=["t1"])).owed


def test_owe_an_end_that_the_log_lost_is_told_again_with_its_cost() -> None:
    over = rules.after_post(rules.with_end(running(), DONE), "ok")
    again = introduced(over, term=8, last_seq=0)
    assert kinds(again) == [(1, "t1", "task_completed")]
    assert again.outbox[0].payload["cost_usd"] == 0.5
    assert introduced(over, term=8, ended=["t1"]).outbox == ()


def test_owe_also_what_another_has_ended() -> None:
    said = rules.with_event(running(), AgentText(task_id="t1", content="x"))
    left = introduced(said, term=8, last_seq=1, started=["t1"], ended=["t1"])
    assert (left.task, left.outbox) == (None, ())
    assert left.owed["t1"].payload["code"] == "runtime_lost"
    ours = introduced(rules.with_end(running(), DONE), term=8, last_seq=1, started=["t1"], ended=["t1"])
    assert ours.owed["t1"].type == "task_completed", "our own end knows the cost"


def test_fresh_what_the_log_took_is_not_told_again_and_the_rest_is_numbered_anew() -> None:
    ledger = rules.with_event(
        rules.with_event(opened(), AgentText(task_id="t1", content="a")), AgentText(task_id="t1", content="b")
    )
    after = introduced(ledger, term=8, last_seq=2, started=["t1"])
    assert [(entry.seq, entry.payload["content"]) for entry in after.outbox] == [(1, "b")]
    assert (after.term, after.seq) == (8, 1)


def test_fresh_an_end_whose_answer_was_lost_is_owed() -> None:
    after = introduced(rules.with_end(running(), DONE), term=8, last_seq=2, started=["t1"], ended=["t1"])
    assert after.task is None
    assert after.owed["t1"].type == "task_completed"


def test_fresh_a_start_that_the_log_forgot_is_repeated_first_and_without_a_generation() -> None:
    said = rules.with_event(running(), AgentText(task_id="t1", content="x"))
    after = introduced(said, term=8, last_seq=0)
    assert kinds(after) == [(1, "t1", "task_started"), (2, "t1", "text")]
    assert after.outbox[0].generation is None
    assert not rules.is_started(after, "t1")


def test_adopt_a_task_that_only_the_log_knows_is_ended() -> None:
    after = introduced(open=["t9"])
    assert kinds(after) == [(1, "t9", "error")]
    assert codes(after) == ["workspace_lost"]
    welcome = wire.Welcome(uid=UID, term=8, last_seq=0, started=[], ended=[], open=["t9"])
    assert rules.after_hello(Ledger(), welcome, ["t9"]).outbox == (), "accounted"
    assert introduced(running(), term=8, last_seq=1, started=["t1"], open=["t1"]).outbox == (), "ours"


def test_a_start_that_another_ledger_had_made_ends_the_task() -> None:
    after = rules.after_post(opened(), "started")
    assert codes(after) == ["workspace_lost"]
    assert after.task
    assert after.task.phase == "ended"
    assert after.outbox[0].seq == 1


def test_fence_a_stale_start_is_dropped_and_a_newer_assignment_awaited() -> None:
    after = rules.after_post(opened(), "stale")
    assert (after.task, after.outbox, after.seq, after.refused) == (None, (), 0, ("t1", 3))
    assert rules.next_task(after, assignment(task={"id": "t1", "instructions": "x"})) is None
    assert rules.next_task(after, assignment(task={"id": "t2", "instructions": "x"})), "another may begin"
    assert rules.next_task(after, assignment(generation=4, task={"id": "t1", "instructions": "x"}))


def test_a_begun_task_whose_repeated_start_is_stale_is_ended() -> None:
    """The log forgot its start, and another task is wanted by now."""
    repeated = introduced(running(), term=8, last_seq=0, started=[])
    assert repeated.outbox[0].generation is None
    after = rules.after_post(repeated, "stale")
    assert (after.task, codes(after), after.outbox[0].seq, after.seq) == (None, ["superseded"], 1, 1)
    assert rules.next_task(after, assignment(generation=9, task={"id": "t1", "instructions": "x"})) is None
    again = introduced(after, term=9, last_seq=0, started=[])
    assert codes(again) == ["superseded"]


@pytest.mark.parametrize("answer", sorted(rules.REQUIRES_HELLO - {"stale"}))
def test_other_refusals_change_nothing_before_the_next_hello(answer: wire.AppendResult) -> None:
    assert rules.after_post(opened(), answer) == opened()


def test_heartbeats_find_what_the_log_lacks() -> None:
    over = rules.after_post(rules.with_end(running(), DONE), "ok")
    claimed = rules.claim(over)
    assert claimed == Claim(7, 2, ("t1",))
    assert not rules.lacks(claimed, wire.Pulse(term=7, last_seq=2, ended=["t1"]), ())
    assert rules.lacks(claimed, wire.Pulse(term=8, last_seq=2, ended=["t1"]), ())
    assert rules.lacks(claimed, wire.Pulse(term=7, last_seq=1, ended=["t1"]), ())
    assert rules.lacks(claimed, wire.Pulse(term=7, last_seq=2), ())
    assert not rules.lacks(claimed, wire.Pulse(term=7, last_seq=2), ["t1"])


def test_another_agent_s_workspace_starts_anew() -> None:
    after = introduced(rules.with_end(running(), DONE), uid="uid-2", open=[])
    assert after == Ledger(uid="uid-2", term=7)


def test_nothing_follows_an_end() -> None:
    with pytest.raises(ValueError, match="not open"):
        rules.with_end(rules.with_end(running(), DONE), TaskCancelled(task_id="t1", reason="x"))
    with pytest.raises(ValueError, match="cannot be opened"):
        rules.with_task(running(), replace(TASK, id="t2"))


def test_a_conversation_that_cannot_go_on_is_not_continued_by_the_next_task() -> None:
    assert rules.with_end(running(), DONE).session_id == "s1"
    assert rules.with_end(running(), TaskFailed(task_id="t1", error="x", code="stalled")).session_id == "s1"
    assert rules.with_end(running(), TaskFailed(task_id="t1", error="x", code="prompt_too_long")).session_id is None


def test_a_malformed_event_is_left_out_and_a_malformed_end_becomes_a_plain_one() -> None:
    said = rules.with_event(running(), AgentText(task_id="t1", content="x"))
    assert rules.without_first(said, "too wide").outbox == ()
    end = rules.without_first(rules.with_end(running(), DONE), "too wide").outbox
    assert [(entry.type, entry.payload["code"], entry.payload["cost_usd"]) for entry in end] == [
        ("error", "internal", 0.5)
    ]


def test_a_long_text_is_cut_and_says_so() -> None:
    payload = (
        rules.with_event(running(), TaskFailed(task_id="t1", error=rules.fitting("x" * 999_999), code="internal"))
        .outbox[0]
        .payload
    )
    assert len(payload["error"]) == 16_384
    assert payload["truncated"] is True


def test_closed_tasks_are_remembered_in_order_and_not_for_ever() -> None:
    owed = {f"t{i}": Outgoing(0, f"t{i}", "error", {}) for i in range(rules.CLOSED_KEPT + 5)}
    after = introduced(Ledger(owed=owed), ended=list(owed))
    assert len(after.closed) == rules.CLOSED_KEPT
    assert after.closed[-1] == f"t{rules.CLOSED_KEPT + 4}"


HAPPENINGS = (
    *("assign", "cancel", "speak", "speak", "settle", "crash"),
    *("lose_workspace", "lose_tail_of_log", "delay_post", "deliver_late"),
)
PROGRESS = st.integers(0, len(World.PROGRESS) - 1)
STEP = st.one_of(PROGRESS, PROGRESS, PROGRESS, st.sampled_from((*HAPPENINGS, "post_without_answer")))


@settings(max_examples=500, deadline=None)
@given(st.lists(STEP, min_size=5, max_size=80))
def test_whatever_goes_wrong_each_task_ends_once(steps: list[int | str]) -> None:
    world = World()
    world.assign()
    for step in steps:
        match step:
            case int():
                world.progress(step)
            case "post_without_answer":
                world.post(answer_is_lost=True)
            case _:
                getattr(world, step)()
        world.check()
    world.come_to_rest()
    while world.late:
        world.deliver_late()
        world.check()
    world.come_to_rest()
    world.check_at_rest()
