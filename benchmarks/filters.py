"""Lists with filters, beside the plain list, over HTTP."""

from benchmarks.measures import Row, crowd, milliseconds, timed
from tests.e2e.laptop import Laptop

ASKED = (
    "",
    "?limit=50",
    "?q=number+77",
    "?namespace=crowd&sort=-lastActivityAt&limit=50",
    "?status=pending&sort=cost",
)


def filters(laptop: Laptop, counts: tuple[int, ...], times: int) -> list[Row]:
    """One after another, while the agents stand still."""
    found = []
    for count in counts:
        crowd(laptop, count)
        for query in ASKED:
            spent = [timed(lambda q=query: laptop.http.get(f"/agents{q}").raise_for_status()) for _ in range(times)]  # type: ignore[misc]
            found.append(Row(f"`GET /agents{query}`, {count} agents", milliseconds(spent), ""))
    return found
