"""Many callers at once, by wrk (Debian's package `wrk`): the pauses that one caller after another does not see.

The command that a row stands for is
`wrk --threads 1 --connections 8 --duration 5s --script SCRIPT http://127.0.0.1:PORT/PATH`.
"""

import json
import shutil
import subprocess
from pathlib import Path

from benchmarks.gateway import QUESTION, open_task
from benchmarks.measures import TASK, Row
from tests.e2e.laptop import Laptop

CALLERS = (8, 32)
AGENTS = 4
"""Agents that call the gateway: it accepts 16 model requests of one agent at once."""
TARGETS = {8: "p99 < 20 ms", 32: ""}
"""With 32 callers on the same cores most of an answer's time is waiting for its turn."""
WARM_S = 1
BEYOND_S = 30
"""Seconds that one run of wrk may take beyond its duration before it counts as failed."""
SCRIPT = """
wrk.method, wrk.body = %s, %s
wrk.headers["content-type"] = "application/json"
local tokens, turn = {%s}, 0
function request()
  if #tokens > 0 then
    turn = turn %% #tokens + 1
    wrk.headers["authorization"] = tokens[turn]
  end
  return wrk.format()
end
function done(summary, latency, requests)
  local failed = summary.errors.status + summary.errors.read
  io.write(string.format("RESULT %%d %%d %%d %%d %%d %%d\\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), latency.max, failed))
end
"""


def callers(laptop: Laptop, folder: Path, seconds: int) -> list[Row]:
    """The API and the gateway with 8 and 32 callers; nothing where wrk is not installed."""
    wrk = shutil.which("wrk")
    if wrk is None:
        return [Row("8 and 32 callers", "not measured: wrk is not installed", "")]
    laptop.assign("called", TASK)
    laptop.end("called")
    gateway = laptop.address("gateway")
    asked = [
        ("`GET /agents/{name}`", f"{laptop.url}/api/v1/agents/called", None),
        ("`GET /agents/{name}/events`", f"{laptop.url}/api/v1/agents/called/events?limit=20", None),
        ("gateway, `count_tokens`", f"{gateway}/model/v1/messages/count_tokens", json.dumps(QUESTION)),
    ]
    rows = []
    script = folder / "wrk.lua"
    for what, url, body in asked:
        # Opened only now: Claude ends the command for which these tasks wait after two minutes.
        tokens = [open_task(laptop, f"asks-{n}")["authorization"] for n in range(AGENTS)] if body else []
        quoted = ", ".join(json.dumps(token) for token in tokens)
        method = "POST" if body else "GET"
        script.write_text(SCRIPT % (json.dumps(method), json.dumps(body) if body else "nil", quoted))
        for count in CALLERS:
            _run(wrk, script, count, WARM_S, url)
            figure = _figure(_run(wrk, script, count, seconds, url))
            rows.append(Row(f"{what}, {count} callers", figure, TARGETS[count]))
    for name in ("called", *(f"asks-{n}" for n in range(AGENTS))):
        laptop.http.delete(f"/agents/{name}")
    return rows


def _run(wrk: str, script: Path, count: int, seconds: int, url: str) -> str:
    """Return the output of wrk."""
    command = [wrk, "--threads", "1", "--connections", str(count), "--script", str(script)]
    command += ["--duration", f"{seconds}s", url]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds + BEYOND_S).stdout


def _figure(said: str) -> str:
    line = next(line for line in said.splitlines() if line.startswith("RESULT "))
    requests, micros, p50, p99, longest, failed = map(int, line.split()[1:])
    assert failed == 0, said
    return (
        f"{requests * 1_000_000 // micros} requests/s, p50 {p50 / 1000:.1f} ms, p99 {p99 / 1000:.1f} ms, "
        f"max {longest / 1000:.0f} ms"
    )
