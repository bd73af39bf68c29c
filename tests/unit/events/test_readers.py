"""Any content of Redis and any text: each item is read separately, and no frame breaks."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from komputer.api.stream import end_message, sse
from komputer.domain.errors import KomputerError
from komputer.domain.event_ids import micros_of, timestamp_of
from komputer.domain.ref import ObjectRef
from komputer.events import schema
from komputer.events.entries import LIVE_FIELDS, READ_FIELDS, UNREADABLE, EventRow, live_of, rows_of, state_of
from komputer.events.follow.cursors import Cursor, parse_cursor
from komputer.events.follow.sources import Delivery, delivery, gap
from komputer.events.follow.tail import deleted
from komputer.redis.idempotency import Mismatch, Record, Unreadable, _record, _wire

REF = ObjectRef("team", "ada")
SEPARATORS = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e\r\n\x00"
TEXT = st.lists(st.characters() | st.sampled_from([*SEPARATORS, "\ud800", "\udfff", '"', "\\"]), max_size=40).map(
    "".join
)
TRICKY = st.builds(
    lambda parts: "".join(parts), st.lists(TEXT | st.sampled_from(["data: ", "event: end", "id: 5", ":"]))
)
BYTES = st.binary(max_size=40) | st.text().map(lambda text: text.encode("utf-8", "surrogatepass"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(), part, max_size=3),
    max_leaves=6,
)
JSON_BYTES = st.builds(
    lambda value, indent: json.dumps(value, indent=indent).encode(), JSON, st.sampled_from([None, 1])
)


def messages(stream: str) -> list[tuple[str, str, str]]:
    """Id, name and data of each message, as the standard of Server-Sent Events has it."""
    found, event_id, name, data = [], "", "", list[str]()
    for line in re.split("\r\n|\n|\r", stream):
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                found.append((event_id, name, "\n".join(data)))
            name, data = "", []
        elif field == "id" and "\x00" not in value:
            event_id = value
        elif field == "event":
            name = value
        elif field == "data":
            data.append(value)
    return found


def told(kind: str, payload: bytes) -> Delivery:
    (row,) = rows_of([(b"1795496372978-308", {b"t": kind.encode(), b"p": payload})])
    return delivery(REF, row)


@given(TRICKY, TRICKY)
def test_no_text_breaks_a_frame(text: str, tool: str) -> None:
    event = schema.ToolCall(task_id="t", id="c", tool=tool, input={text: [text]})
    kind, payload = schema.to_wire(event)
    frame = told(kind, orjson.dumps(payload))
    after = told("text", b'{"content":"after"}')
    assert json.loads(frame.text.encode())["payload"] == payload, "a frame of a WebSocket"
    ((event_id, name, data), (_, _, second)) = messages(sse(frame) + sse(after))
    assert (event_id, name, data, second) == (frame.cursor_text, "", frame.text, after.text)


@given(BYTES | JSON_BYTES, BYTES | st.just(b"text"))
def test_no_entry_breaks_a_frame(payload: bytes, kind: bytes) -> None:
    entries: list[tuple[bytes, Mapping[bytes, bytes] | Sequence[bytes]]] = [
        (b"1795496372978-1", {b"t": kind, b"p": payload}),
        (b"1795496372978-2", [b"t", b"text", b"p", b'{"content":"after"}']),
    ]
    first, second = [delivery(REF, row) for row in rows_of(entries)]
    for frame in (first, second):
        found = json.loads(frame.text)
        assert isinstance(found["payload"], dict)
        assert found["id"] == frame.cursor_text
    assert [data for _, _, data in messages(sse(first) + sse(second))] == [first.text, second.text]
    assert json.loads(second.text)["payload"] == {"content": "after"}


@given(st.dictionaries(BYTES | st.sampled_from([b"t", b"p"]), BYTES), BYTES)
def test_an_entry_with_any_fields_and_id_is_delivered_or_left_out(fields: dict[bytes, bytes], entry: bytes) -> None:
    for row in rows_of([(entry, fields), (b"5-18446744073709551615", fields)]):
        micros_of(row.id)
        timestamp_of(row.id)
        assert isinstance(orjson.loads(row.payload), dict)


def test_an_invalid_entry_is_reported_at_its_position() -> None:
    wrong: list[tuple[dict[bytes, bytes], str]] = [
        ({b"x": b"y"}, "a field is missing"),
        ({b"t": b'a","b', b"p": b"{}"}, "its type is no name"),
        ({b"t": b"text", b"p": b"{"}, "its payload is no JSON"),
        ({b"t": b"text", b"p": b'"\xff"'}, "its payload is no JSON"),
        ({b"t": b"text", b"p": b'{"a": "\\ud800"}'}, "its payload is no JSON"),
        ({b"t": b"text", b"p": b"[" * 5000}, "its payload is no JSON"),
        ({b"t": b"text", b"p": b"[1]"}, "its payload is no object"),
    ]
    for fields, why in wrong:
        (row,) = rows_of([(b"5-1", fields)])
        assert (row.id, row.type) == ("5-1", UNREADABLE)
        assert why in orjson.loads(row.payload)["error"]
    assert rows_of([(b"5-1", {b"t": b"text", b"p": b'{\n"a": 1\r\n}'})]) == [EventRow("5-1", "text", b'{"a":1}')]


@given(st.lists(st.none() | BYTES | st.sampled_from([b"9" * 17, b"-1", b"1"]), min_size=12, max_size=12))
def test_a_live_hash_of_any_content_is_read(values: list[bytes | None]) -> None:
    state = state_of(values[: len(READ_FIELDS)])
    live = live_of(values[: len(LIVE_FIELDS)])
    orjson.dumps([*state, *live])
    assert live.last_us == state.last
    gap(REF, state.born, max(state.lost, state.last))


@given(BYTES | JSON_BYTES)
def test_a_record_of_any_content_is_read_or_refused(raw: bytes) -> None:
    with pytest.raises(Unreadable):
        _record(raw)


@given(JSON, JSON, JSON)
def test_a_record_of_any_fields_is_read_or_refused(status: Any, headers: Any, body: Any) -> None:
    raw = json.dumps(["d", "01M85YRSC75NS6QDFF19GM95DJ", [status, headers, body]]).encode()
    try:
        found = _record(raw)
    except Unreadable:
        return
    assert isinstance(found, Record)
    _wire(found)


def test_an_end_of_a_stream_says_why() -> None:
    text = end_message(deleted(REF))
    assert messages(text) == [("", "end", "agent_deleted")]
    assert ": agent 'ada' in namespace 'team' was deleted\n" in text
    assert messages(end_message(KomputerError("a\nevent: end\u2028b\rdata: c", code="x"))) == [("", "end", "x")]
    assert Mismatch.code != Unreadable.code


@given(st.text() | st.builds(lambda a, b: f"1-1~{a}/{b}:5-5", st.text(), st.text()))
def test_a_cursor_from_outside_is_one_word_or_refused(text: str) -> None:
    try:
        cursor = parse_cursor(text)
    except KomputerError:
        return
    assert isinstance(cursor, Cursor)
    assert re.fullmatch(r"[!-~]+", cursor.to_text())
