"""What a model, the CLI, a tool or the agent's own files may contain: anything. Each reader bears it."""

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from claude_agent_sdk import (
    AssistantMessage,
    ResultMessage,
    SystemMessage,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
    UserMessage,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st

from komputer.domain.connector import is_connector_name
from komputer.domain.errors import Unavailable
from komputer.events.schema import AgentText, EventBase, from_wire, to_wire
from komputer.gateway.agents.streams import _line as gateway_line
from komputer.protocol import wire
from komputer.runtime.claude import options, transcript
from komputer.runtime.claude.process import checked
from komputer.runtime.claude.tools import ToolPolicy
from komputer.runtime.claude.translate import Translation, translated
from komputer.runtime.gateway_client import _line, split_lines
from komputer.runtime.ledger.ledger import MESSAGE, Ledger, PendingMessage, Phase
from komputer.runtime.ledger.rules import with_event
from komputer.runtime.ledger.store import LedgerStore
from komputer.runtime.masking import Mask
from komputer.runtime.settings import RuntimeSettings
from komputer.runtime.task import plan
from komputer.runtime.task.ending import Outcome, judged
from tests.unit.runtime.test_runtime_ledger import TASK

SEPARATORS = "\u2028\u2029\u0085\x0b\x0c\x1c\x1d\x1e\r\n\x00\ud800\udfff"
TEXT = st.lists(st.sampled_from(SEPARATORS) | st.characters(), max_size=40).map("".join)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.just(10**400), TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXT, inner, max_size=4)),
    max_leaves=12,
)


def bottomless(depth: int = 2000) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


# ---- what the model, the CLI and tools say ----


@settings(deadline=None, max_examples=60)
@given(JSON, JSON, JSON, JSON, JSON)
@example("toolu_1", "Bash", ["ls"], None, None)
@example("toolu_1", "Bash", "ls", "x", True)
@example("toolu_1", "Bash", {"command": bottomless()}, bottomless(), None)
def test_whatever_a_model_calls_and_a_tool_answers_becomes_events_of_the_log(
    one: Any, two: Any, three: Any, four: Any, five: Any
) -> None:
    state = Translation(task_id="t1")
    messages: list[Any] = [
        AssistantMessage(
            content=[
                TextBlock(four),
                ThinkingBlock(four, ""),
                ToolUseBlock(one, two, three),
                TextBlock("and the rest of it"),
            ],
            model="m",
            usage=five,
        ),
        AssistantMessage(content=[], model="<synthetic>", error=five),
        UserMessage(content=[ToolResultBlock(one, four, five), ToolResultBlock("c2", "ok", None)]),
        SystemMessage("api_retry", {"attempt": one, "max_retries": two, "retry_delay_ms": three, "error_status": four}),
        SystemMessage("compact_boundary", {"compact_metadata": {"trigger": one, "pre_tokens": two}}),
        SystemMessage("compact_boundary", {"compact_metadata": five}),
    ]
    events: list[Any] = []
    for message in messages:
        state, more = translated(state, message, 1.0)
        events += more
    assert [event.content for event in events if isinstance(event, AgentText)][-1] == "and the rest of it"
    assert not state.calls
    mask = Mask()
    mask.learn({"SECRET_A": "hunter22"})
    for event in events:
        (entry,) = with_event(Ledger(), mask.masked(event)).outbox
        from_wire(entry.type, json.loads(json.dumps(entry.payload)))


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.sampled_from(sorted(ResultMessage.__annotations__)), JSON))
@example({"model_usage": {TASK.settings.model: []}, "usage": "x", "num_turns": "1", "is_error": False})
@example({"is_error": True, "errors": [None, 1], "api_error_status": "529", "terminal_reason": 4, "result": {}})
def test_whatever_claude_says_at_the_end_ends_the_task(fields: dict[str, Any]) -> None:
    plain: dict[str, Any] = {
        "subtype": "success",
        "duration_ms": 1,
        "duration_api_ms": 1,
        "is_error": False,
        "num_turns": 1,
        "session_id": TASK.session_id,
    }
    result = checked(ResultMessage(**(plain | fields)))
    end = judged(TASK, Outcome(result=result), None, 300, TASK.started_at + 1)
    if isinstance(end, EventBase):
        to_wire(end)


# ---- the assignment stream ----


async def _read(*chunks: bytes) -> list[bytes]:
    async def stream() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return [line async for line in split_lines(stream())]


@settings(deadline=None)
@given(TEXT, TEXT, st.integers(1, 40))
@example("a\u2028b", "\u0085", 3)
def test_an_assignment_arrives_as_it_was_sent(instructions: str, name: str, size: int) -> None:
    sent = wire.Assignment.model_construct(
        uid="u",
        name="ada",
        namespace="team",
        generation=1,
        task=wire.AssignedTask.model_construct(id="t1", instructions=instructions),
        settings=wire.TaskSettings(model="claude-sonnet-4-6", role="worker", disallowed_tools=["Bash"]),
        environment={"SECRET_A": "x\u2028y"},
    )
    line = gateway_line(sent) + gateway_line(wire.TaskMessage.model_construct(id="1-0", task_id="t1", content=name))
    assert line.isascii()
    lines = asyncio.run(_read(*(line[at : at + size] for at in range(0, len(line), size))))
    assert len(lines) == 2
    whole = instructions.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if instructions == whole and name == name.encode("utf-16", "surrogatepass").decode("utf-16", "replace"):
        assignment, message = map(_line, lines)
        assert isinstance(assignment, wire.Assignment)
        assert isinstance(message, wire.TaskMessage)
        assert assignment.task
        assert (assignment.task.instructions, message.content) == (instructions, name)


def test_lines_of_a_gateway_that_writes_unicode_are_whole_too() -> None:
    assert asyncio.run(_read("a\u2028b\u0085c\x0b\x1c\r".encode(), b"\nd\n\ncut")) == [
        "a\u2028b\u0085c\x0b\x1c\r".encode(),
        b"d",
        b"",
    ]


@settings(deadline=None)
@given(JSON)
@example(bottomless())
def test_a_line_that_is_no_assignment_is_the_gateway_s_fault(value: Any) -> None:
    try:
        line = json.dumps(value).encode()
    except RecursionError:
        line = b"[" * 100_000
    with pytest.raises(Unavailable):
        _line(line)
    with pytest.raises(Unavailable):
        _line(line[:-1] or b"{")


# ---- tool rules, calls and connectors ----

RULES = st.lists(
    TEXT | st.sampled_from(["Bash", "Bash(git:*)", "mcp__git", "mcp__git__push", "(", "mcp__"]), max_size=5
)
PLACES = RuntimeSettings(
    gateway_url="http://unused", token_file=Path("token"), workspace=Path("/w"), agent="ada", namespace="team"
)
LOOPBACK = options.Loopback("http://127.0.0.1:1", "key")


@settings(deadline=None, max_examples=60)
@given(JSON, RULES, RULES)
@example({"tool_name": ["Bash"], "tool_input": None}, [], ["Bash"])
@example({"tool_name": "WebFetch"}, ["Bash"], [])
def test_any_call_of_a_tool_is_allowed_or_refused(call: Any, allowed: list[str], disallowed: list[str]) -> None:
    rules = {"allowed_tools": allowed, "disallowed_tools": disallowed}
    task = wire.TaskSettings(model="m", role="worker").model_copy(update=rules)
    assignment = wire.Assignment(uid="u", name="ada", namespace="team", generation=1, settings=task)
    waited: list[bool] = []

    async def before_tools() -> None:
        waited.append(True)

    chosen = options.options(
        PLACES,
        assignment,
        task,
        plan.first(TASK),
        cli=Path("claude"),
        launcher=None,
        loopback=LOOPBACK,
        before_tools=before_tools,
    )
    assert chosen.hooks
    hook: Any = chosen.hooks["PreToolUse"][0].hooks[0]
    answer: dict[str, Any] = asyncio.run(hook(call, None, {"signal": None}))
    assert waited
    name = call.get("tool_name") if isinstance(call, dict) else None
    is_refused = "hookSpecificOutput" in answer
    assert is_refused == (not isinstance(name, str) or not ToolPolicy.of(task).may_call(name))


@settings(deadline=None, max_examples=60)
@given(st.lists(TEXT | st.sampled_from(["git", "komputer", "ide", "../x", "a/b"]), max_size=6), RULES, RULES)
def test_any_connectors_and_rules_make_a_configuration_that_claude_can_read(
    connectors: list[str], allowed: list[str], disallowed: list[str]
) -> None:
    task = wire.TaskSettings.model_construct(
        model="m", role="manager", connectors=connectors, allowed_tools=allowed, disallowed_tools=disallowed
    )
    servers = json.loads(json.dumps(options.servers(task, LOOPBACK)))["mcpServers"]
    assert servers.keys() <= {"komputer", *filter(is_connector_name, connectors)}
    assert all(each["url"].startswith(LOOPBACK.url) for each in servers.values())


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(TEXT, TEXT), max_size=4),
    st.sets(TEXT, max_size=3),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["written", "acted"]),
    st.none() | TEXT | st.just(MESSAGE),
    RULES,
)
def test_any_record_of_a_task_leads_to_a_start_or_an_end(
    messages: list[tuple[str, str]],
    known: set[str],
    has_prompt: bool,
    has_conversation: bool,
    phase: Phase,
    cause: str | None,
    rules: list[str],
) -> None:
    task = replace(TASK, messages=tuple(PendingMessage(*each) for each in messages), phase=phase, cause=cause)
    recorded = plan.Recorded(
        has_file=has_conversation, has_conversation=has_conversation, has_prompt=has_prompt, messages=frozenset(known)
    )
    start = plan.again(task, recorded, 5, "new", 1.0)
    if isinstance(start, EventBase):
        to_wire(start)
    else:
        assert start.given <= {each.id for each in task.messages} | known
    forged = task.settings.model_copy(update={"allowed_tools": rules, "role": "manager"})
    assignment = wire.Assignment(uid="u", name="ada", namespace="team", generation=1, settings=TASK.settings)
    _, permitted = plan.permitted(assignment, replace(task, settings=forged))
    assert permitted.settings.role == TASK.settings.role


# ---- files of the workspace ----


@settings(deadline=None, max_examples=60)
@given(st.lists(st.one_of(JSON, st.binary(max_size=40)), max_size=5), TEXT)
@example([{"type": "user", "uuid": "p1"}, b"\xff\x00{", b"[" * 100_000], "s1")
def test_any_transcript_is_read(entries: list[Any], session: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        claude = Path(folder)
        (claude / "projects" / "p").mkdir(parents=True)
        lines = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in entries]
        known = b'{"type":"user","uuid":"known","message":{"content":"a\\u2028b\xe2\x80\xa8"}}'
        usage = b'{"type":"assistant","message":{"usage":{"input_tokens":7},"content":"\r\x0b\xc2\x85"}}'
        lines = [line.replace(b"\n", b" ") for line in lines]
        (claude / "projects" / "p" / "s1.jsonl").write_bytes(b"\n".join([known, *lines, usage]) + b"\n")
        assert transcript.has_prompt(claude, "s1", "known")
        assert transcript.has_message(claude, "s1", "known")
        assert transcript.has_conversation(claude, "s1")
        assert not transcript.has_prompt(claude, "s1", "unknown")
        assert transcript.last_usage(claude, "s1") == {}  # a raw carriage return is not JSON, and ends no line
        transcript.path(claude, session)


@settings(deadline=None, max_examples=25)
@given(
    st.dictionaries(
        st.sampled_from(
            [
                "uid",
                "term",
                "seq",
                "generation",
                "session_id",
                "closed",
                "owed",
                *(f"task.{name}" for name in TASK.__dataclass_fields__),
            ]
        ),
        JSON,
    )
)
@example({"task.id": "t1", "task.settings": []})
@example({"task.spent_usd": 1e308})
@example({"session_id": "../../x"})
@example({"closed": "abc", "owed": {"t1": [1]}})
def test_any_ledger_is_read_or_set_aside(facts: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "ledger.db")
        store = LedgerStore(path)
        store.save(Ledger(uid="uid-1", term=3, task=TASK))
        for name, value in facts.items():
            assert store._db
            store._db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, json.dumps(value)))
        store.close()
        again = LedgerStore(path)
        if not again.was_unreadable:
            again.save(with_event(again.ledger, AgentText(task_id="t1", content="\u2028")))
            assert 0 <= (again.ledger.task or TASK).cost_usd < 1e9
        again.close()


@settings(deadline=None, max_examples=25)
@given(TEXT)
def test_texts_come_out_of_the_ledger_as_they_went_in(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "ledger.db")
        store = LedgerStore(path)
        store.save(with_event(Ledger(uid="u"), AgentText(task_id="t1", content=text)))
        store.close()
        again = LedgerStore(path)
        assert (again.was_unreadable, again.ledger) == (False, store.ledger)
        again.close()
