"""What the client makes of Server-Sent Events."""

import json
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from komputer.client.sse import ServerSentEvent, lines, messages

SEPARATORS = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
TEXTS = st.lists(st.sampled_from(SEPARATORS + "\0 :a\ud800\U0001f600é") | st.characters()).map("".join)
"""Every character that some reader takes for the end of a line, NUL, lone surrogates, and the fields' own colon. Not
`st.text(… | …)`, which makes one set of both and then hardly ever draws them."""


def cut(stream: bytes, at: list[int]) -> list[bytes]:
    bounds = [0, *sorted(each % (len(stream) + 1) for each in at), len(stream)]
    return [stream[begin:end] for begin, end in pairwise(bounds)]


def test_each_message_has_its_cursor_and_its_data() -> None:
    stream = b'retry: 1000\nid: 1-0\n\nid: 2-0\ndata: {"a": 1}\n\n:\n\ndata: {"b": 2}\n\n'
    assert list(messages([stream])) == [
        ServerSentEvent("1-0", "", None),
        ServerSentEvent("2-0", "", '{"a": 1}'),
        ServerSentEvent("2-0", "", None),
        ServerSentEvent("2-0", "", '{"b": 2}'),
    ]


def test_a_message_that_was_cut_off_is_none() -> None:
    assert list(messages([b'id: 1-0\ndata: {"a": 1}\n'])) == []


def test_the_type_belongs_to_one_message_only() -> None:
    stream = b"event: gap\ndata: 1\n\nevent: end\ndata: agent_deleted\n\ndata: 2\n\n"
    assert [(each.event, each.data) for each in messages([stream])] == [
        ("gap", "1"),
        ("end", "agent_deleted"),
        ("", "2"),
    ]


def test_an_id_that_cannot_be_sent_back_in_a_header_is_not_taken() -> None:
    stream = "id: 1-0\n\nid: 2\0\n\nid: é\n\n".encode()
    assert [each.id for each in messages([stream])] == ["1-0", "1-0", "1-0"]


@given(TEXTS, st.sampled_from([True, False]), st.lists(st.integers(0)))
def test_an_event_arrives_as_it_was_sent_whatever_is_in_it_and_wherever_chunks_end(
    text: str, is_ascii: bool, at: list[int]
) -> None:
    encoded = json.dumps({"content": text}, ensure_ascii=is_ascii).encode("utf-8", "surrogatepass")
    stream = b"id: 1-0\ndata: " + encoded + b"\n\nid: 2-0\ndata: {}\n\n"
    first, second = messages(cut(stream, at))
    assert (first.event, second) == ("", ServerSentEvent("2-0", "", "{}"))
    assert json.loads(first.data or "")["content"] == (
        text if is_ascii else json.loads(encoded.decode("utf-8", "replace"))["content"]
    )


@given(st.lists(st.binary().filter(lambda line: not set(line) & set(b"\r\n"))), st.data())
def test_lines_end_where_the_standard_says_and_nowhere_else(wanted: list[bytes], data: st.DataObject) -> None:
    ends = data.draw(st.lists(st.sampled_from([b"\n", b"\r\n", b"\r"]), min_size=len(wanted), max_size=len(wanted)))
    # A carriage return before a line feed is one end; an empty line between the two would be none.
    for place in range(1, len(wanted)):
        if not wanted[place] and ends[place - 1] == b"\r" and ends[place] == b"\n":
            ends[place] = b"\r\n"
    stream = b"".join(line + end for line, end in zip(wanted, ends, strict=True)) + b"cut off"
    assert list(lines(cut(stream, data.draw(st.lists(st.integers(0)))))) == wanted
