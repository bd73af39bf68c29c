"""A credential that a server sends back does not reach the agent."""

from hypothesis import given
from hypothesis import strategies as st

from komputer.gateway.connectors.proxy import request_id_of
from komputer.gateway.connectors.redaction import Redaction

SECRET = "tok-0123456789"


def passed(secret: str | None, *chunks: bytes) -> bytes:
    redaction = Redaction(secret)
    return b"".join([*(redaction.feed(chunk) for chunk in chunks), redaction.rest()])


@given(st.lists(st.sampled_from([b"tok-", b"0123", b"456789", b"t", b"data: {}\n\n", SECRET.encode()]), max_size=30))
def test_however_it_is_cut_into_chunks_it_never_comes_through_and_no_byte_is_lost(chunks: list[bytes]) -> None:
    out = passed(SECRET, *chunks)
    whole = b"".join(chunks)
    assert SECRET.encode() not in out
    assert len(out) == len(whole)
    assert out == whole.replace(SECRET.encode(), b"*" * len(SECRET))


def test_a_line_without_it_comes_at_once() -> None:
    redaction = Redaction(SECRET)
    assert redaction.feed(b'data: {"a": 1}\n\n') == b'data: {"a": 1}\n\n'
    assert redaction.feed(b"ends with tok") == b"ends with "
    assert redaction.feed(b"en") == b"token"[:5]


def test_short_ones_and_none_change_nothing() -> None:
    assert passed("abc", b"abc") == b"abc"
    assert passed(None, b"abc") == b"abc"


def test_only_a_request_that_waits_for_an_answer_gets_an_error_of_mcp() -> None:
    assert request_id_of(b'{"jsonrpc": "2.0", "id": 7, "method": "tools/call"}') == 7
    assert request_id_of(b'{"jsonrpc": "2.0", "id": "a", "method": "tools/call"}') == "a"
    assert request_id_of(b'{"jsonrpc": "2.0", "id": 0, "method": "x"}') == 0
    for other in (
        b"",
        None,
        b"[]",
        b"{",
        b'{"method": "x"}',
        b'{"id": 1, "result": {}}',
        b'{"id": true, "method": "x"}',
    ):
        assert request_id_of(other) is None
