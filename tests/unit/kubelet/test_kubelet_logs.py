"""The output of a container, as `kubectl logs` shows it."""

import asyncio
import tempfile
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from komputer.local.apiserver.logs import LogRequest
from komputer.local.kubelet.logs import ContainerLogFile, log_source


async def _tail(folder: Path, lines: int) -> bytes:
    request = LogRequest(namespace="team", pod="ada", container="agent", tail_lines=lines)
    return b"".join([chunk async for chunk in log_source(folder)(request)])


SEPARATORS = [each.encode("utf-8", "surrogatepass") for each in "\u2028\u2029\u0085\x0b\x0c\x1c\x1d\x1e\r\x00\ud800"]
LINE = st.lists(st.one_of(st.sampled_from(SEPARATORS), st.binary(max_size=4)), max_size=6).map(
    lambda parts: b"".join(parts).replace(b"\n", b"")
)


@settings(deadline=None, max_examples=60)
@given(st.lists(LINE, min_size=1, max_size=6), st.integers(1, 7), st.booleans())
@example([b"10%\r20%\r100%", b"done"], 1, True)
def test_a_line_of_a_log_ends_at_the_line_feed_only(lines: list[bytes], wanted: int, is_ended: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        log = ContainerLogFile(Path(name, "team_ada_uid", "agent.log"))
        log.write(b"\n".join(lines) + (b"\n" if is_ended else b""))
        log.close()
        whole = [line + b"\n" for line in lines] if is_ended else [*(line + b"\n" for line in lines[:-1]), lines[-1]]
        whole = [line for line in whole if line]
        assert asyncio.run(_tail(Path(name), wanted)) == b"".join(whole[-wanted:])
