"""A parser of Server-Sent Events: bytes in, messages out."""

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

_LINE_END: Final = re.compile(rb"\r\n|\r|\n")
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class ServerSentEvent(NamedTuple):
    """One dispatched message of a stream."""

    id: str
    """The last event id of the stream so far, `""` before the first one."""
    event: str
    """The type; `""` if the stream names none."""
    data: str | None
    """None if the message has no data and only changes the id."""


def lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the complete lines of a byte stream, split at `\\n`, `\\r\\n` and `\\r` only.

    Text may contain other separators (U+0085, U+2028 …) which `str.splitlines` would split at. An unterminated last
    line is dropped. A chunk may end anywhere, also within a line end.
    """
    pending: list[bytes] = []
    ended_with_cr = False
    for received in chunks:
        chunk = received[1:] if ended_with_cr and received.startswith(b"\n") else received
        ended_with_cr = chunk.endswith(b"\r") or (ended_with_cr and not received)
        first, *rest = _LINE_END.split(chunk)
        pending.append(first)
        for piece in rest:
            yield b"".join(pending)
            pending = [piece]


def messages(chunks: Iterable[bytes]) -> Iterator[ServerSentEvent]:
    """Yield the messages of a stream; one that was cut off is dropped. Bytes that are not UTF-8 are replaced."""
    event_id, event, data = "", "", list[str]()
    is_first = True
    for received in lines(chunks):
        line = received.removeprefix(_BYTE_ORDER_MARK) if is_first else received
        is_first = False
        if not line:
            yield ServerSentEvent(event_id, event, "\n".join(data) if data else None)
            event, data = "", []
            continue
        field, _, value = line.partition(b":")
        text = value.removeprefix(b" ").decode("utf-8", "replace")
        if field == b"data":
            data.append(text)
        elif field == b"event":
            event = text
        elif field == b"id" and text.isascii() and (text.isprintable() or not text):
            # The client sends the id back in a header, which allows only printable ASCII.
            event_id = text
