"""Lists with filters: `python -m benchmarks.filters`. The decision alone, and over HTTP beside the plain list."""

import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.measures import Row, crowd, machine, milliseconds, timed
from komputer.agents import listing
from komputer.agents.claim import NewTask, new_agent
from komputer.agents.view import agent_body
from tests.e2e.laptop import Laptop

ASKED = (
    "limit=50",
    "q=number+77",
    "label=team=blue&sort=-lastActivityAt&limit=50",
    "status=pending&sort=cost",
)


def manifest(n: int) -> dict[str, Any]:
    labels = {"team": "blue" if n % 3 else "red", "shard": str(n % 20)}
    made = new_agent(
        f"agent-{n:05}",
        f"team-{n % 7}",
        NewTask("01ARZ3NDEKTSV4RRFFQ69G5FAV", f"Count the sheep of number {n}, twice. " * 10),
        {"labels": labels},
    )
    made["metadata"] |= {"uid": str(n), "creationTimestamp": "2026-01-01T00:00:00Z"}
    return made | {"status": {"totalCostUSD": f"{n % 100}.0000", "lastActivityAt": f"2026-01-01T00:00:{n % 60:02}Z"}}


def decisions(count: int, times: int) -> list[Row]:
    """Filter, order, page and answer, with everything in memory; and what a change of one agent costs."""
    manifests = [manifest(n) for n in range(count)]
    made = [listing.row(agent_body(each, None), each["metadata"]["labels"]) for each in manifests]
    rows = sorted(made, key=lambda row: row[:2])
    facets = listing.facets(rows, rows)
    found = []
    for text in ASKED:
        asked = listing.query(
            [(k, v.replace("+", " ")) for k, _, v in (part.partition("=") for part in text.split("&"))]
        )
        spent = [timed(lambda q=asked: listing.answer(listing.matching(rows, q), q, facets)) for _ in range(times)]  # type: ignore[misc]
        found.append(Row(f"{count} agents in memory, ?{text}", milliseconds(spent), ""))
    anew = [timed(lambda: listing.facets(sorted(made, key=lambda row: row[:2]), rows)) for _ in range(times)]
    return [*found, Row(f"{count} agents in memory, order and facets anew", milliseconds(anew), "")]


def over_http(laptop: Laptop, count: int, times: int) -> list[Row]:
    crowd(laptop, count)
    time.sleep(3)
    found = []
    for text in ("", *ASKED):
        spent = [timed(lambda t=text: laptop.http.get(f"/agents?{t}").raise_for_status()) for _ in range(times)]  # type: ignore[misc]
        found.append(Row(f"`GET /agents?{text}`, {count} agents", milliseconds(spent), ""))
    return found


def main() -> None:
    rows = [*decisions(1000, 50), *decisions(10_000, 20)]
    with tempfile.TemporaryDirectory() as folder:
        laptop = Laptop(Path(folder) / "data").start()
        rows += over_http(laptop, 1000, 50)
        laptop.stop()
    print(machine())
    for row in rows:
        print(f"| {row.what} | {row.figure} |")


if __name__ == "__main__":
    main()
