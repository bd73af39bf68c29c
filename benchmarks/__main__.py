"""python -m benchmarks [--quick]: measures, prints and, without --quick, writes `benchmarks/RESULTS.md`."""

import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.callers import callers
from benchmarks.filters import filters
from benchmarks.gateway import connector, model
from benchmarks.measures import Row, idle, lists, machine, starts, tasks
from benchmarks.streams import streams
from tests.e2e.laptop import Laptop

BOUNDS = """
## What bounds it

- **Ready.** Importing FastAPI and the clients, once in the parent; each part is a fork of it.
- **A new agent's start.** The sandbox and the imports of the runtime; the Claude CLI starts beside the hello.
- **A warm task.** The Claude CLI: it is started for each task (0.3 to 0.5 s with resume) and stopped after it, so
  that an idle agent costs one small process. What we add is two writes to disk (ledger, log), one patch and one
  push.
- **Callers at once.** One process computes one answer at a time. What is alive after the start is taken out of garbage
  collection (`bootstrap/heap.py`); before that, collections held all callers up for a tenth of a second.
- **`GET /agents`.** Copying the answer to the socket: it is made once per change and kept as bytes.
- **The gateway.** Whose pod it is (known after the first request), one question to the log whether its task is
  open, and one more hop: the bytes pass as they come. A tool call is several exchanges of MCP's, hence more than a
  model request.
- **A manager's warm task.** Claude connects to the MCP server of the manager's own tools before its first turn; a
  worker has none, as the bare SDK has none.
- **Filters.** A row per agent is made when the agent changes; a filter goes over rows in memory, an order sorts
  them. With 10 000 agents the whole list is 10 MB, and copying it to the socket takes the time; a page of 50 takes
  1 to 2 ms.
- **Event → WebSocket.** Valkey wakes one reader per process, which reads each watched log once and gives the same
  bytes to every socket: two round trips to Valkey, then a write for each reader. Logs that nobody watches cost
  nothing.
- **The first event.** The same way: no log has to be discovered. **A stuck reader** holds only its own buffers.
- **A burst.** One reader is as fast as the writer; 50 are bound by 250 000 writes to sockets in one process.
- **A page.** One range of the log, whose entries are JSON already.
- **A watcher's memory.** The buffers of its socket and its WebSocket. **An idle agent's** is one Python process
  with an open connection; Claude runs during tasks only.
- **Idle.** Heartbeats every ten seconds; nothing polls.

## What the profiles say

Samples of running processes (py-spy, 400 a second), self time.

- `GET /agents` with 1000 agents, 8 at once: half of the API's time (48 %) is the one write of the ready bytes to the
  socket, 6 % the write of the head. The rest is FastAPI's dispatch in pieces of at most 1 %; no line of ours has more.
  A faster server would have to copy less, not compute less.
- One warm task after another: API, gateway and operator wait in epoll for three quarters of the time or more; what they
  do most is to write to sockets (5 %). The runtime waits for the Claude CLI. So the rest of a task's time is the CLI's
  own start, which we do not make shorter: keeping it running between tasks would cost 160 MB for each idle agent.
"""


def table(title: str, rows: list[Row]) -> str:
    lines = [f"## {title}", "", "| what | measured | target |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {row.what} | {row.figure} | {row.target} |" for row in rows), ""])


def started(data_dir: Path) -> Laptop:
    """Start a platform whose client does not compare answers with the OpenAPI document, as the tests' clients do: that
    takes longer than a large answer."""
    laptop = Laptop(data_dir).start()
    laptop.http.event_hooks = {"request": [], "response": []}
    return laptop


def main(arguments: list[str]) -> int:
    quick = "--quick" in arguments
    with tempfile.TemporaryDirectory(prefix="komputer-bench-") as name:
        folder = Path(name)
        parts = [("Start", starts(folder, 2 if quick else 5))]
        laptop = started(folder / "main")
        try:
            parts.append(("Idle, no agents", idle(laptop, 0, 2 if quick else 5)))
            parts.append(("Tasks", tasks(laptop, 3 if quick else 10)))
            calls = 30 if quick else 300
            parts.append(("Gateway", [*model(laptop, calls), *connector(laptop, folder / "mcp", calls)]))
            parts.append(("Callers at once, by wrk", callers(laptop, folder, 2 if quick else 5)))
            parts.append(("Lists", lists(laptop, (10, 100) if quick else (10, 100, 1000), 2 if quick else 6)))
            parts.append(("Streams", streams(laptop, 100 if quick else 1000, 1 if quick else 5)))
        finally:
            laptop.stop()
        if not quick:
            laptop = started(folder / "many")
            try:
                parts.append(("Filters, one request after another", filters(laptop, (1000, 10_000), 50)))
            finally:
                laptop.stop()
            laptop = started(folder / "crowded")
            try:
                parts.append(("Idle, 20 agents", idle(laptop, 20, 5)))
            finally:
                laptop.stop()
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    head = f"# Results\n\nMade by `make bench` on {day}: {machine()}. The load comes from the same cores."
    text = "\n".join([head, "", *(table(title, rows) for title, rows in parts), BOUNDS.lstrip()])
    print(text)
    if not quick:
        (Path(__file__).parent / "RESULTS.md").write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
