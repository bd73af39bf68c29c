"""How a stream ends, and what a browser reads."""

import pytest

from komputer.api.stream import Draining, TooSlow, close_code, close_reason, sse
from komputer.domain.errors import Invalid, KomputerError, NotFound, Unavailable
from komputer.domain.ref import ObjectRef
from komputer.events.follow.cursors import Cursor
from komputer.events.follow.sources import Delivery, gap
from komputer.events.follow.tail import StreamEnded


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Invalid("x"), 4400),
        (NotFound("x"), 4404),
        (TooSlow(), 4408),
        (StreamEnded("x"), 4410),
        (Unavailable("x", code="too_many_streams"), 4429),
        (Draining(), 1012),
        (Unavailable("x", code="log_unavailable"), 1013),
        (KomputerError("secret"), 1011),
    ],
)
def test_each_reason_to_end_has_its_code(error: KomputerError, code: int) -> None:
    assert close_code(error) == code


def test_a_reason_fits_into_a_close_frame_and_tells_nothing_internal() -> None:
    assert len(close_reason(NotFound("ä" * 100)).encode()) == 122
    assert close_reason(KomputerError("secret")) == "internal error"


def test_an_event_is_one_message_and_a_gap_has_a_name() -> None:
    ref = ObjectRef("team", "ada")
    assert sse(Delivery(ref, 1, "text", '{"a":1}', Cursor(1), "0-1")) == 'id: 0-1\ndata: {"a":1}\n\n'
    assert sse(gap(ref, 5, 1_000_007)).startswith('id: 1000-7\nevent: gap\ndata: {"agentName":"ada","namespace":"team"')
