"""The reference pages: every operation has its place, and their commands do what they say."""

import json
from pathlib import Path

from tests.e2e.laptop import Laptop
from tests.e2e.pages import PAGES, blocks, shell
from tests.e2e.platform import until

DOCUMENT = json.loads((Path(__file__).parents[2] / "docs" / "openapi.json").read_text())


def test_every_operation_is_on_a_page() -> None:
    pages = "".join(page.read_text() for page in PAGES.glob("*.md"))
    paths = [path.removeprefix("/api/v1") for path in DOCUMENT["paths"] if path.startswith("/api/v1/")]
    assert [path for path in paths if path not in pages] == []


def test_the_commands_of_the_pages_work(laptop: Laptop) -> None:
    laptop.http.delete("/agents/ada")
    for page in ("agents.md", "events.md"):
        for block in blocks(page, laptop.url):
            until(lambda: laptop.http.get("/agents/ada").json().get("taskStatus") != "InProgress", "ada is idle")
            shell(block)
    until(lambda: laptop.agent("ada").get("taskStatus") == "Complete", "the last task ends")
    types = [event["type"] for event in laptop.events("ada")]
    assert types.count("user_message") == types.count("compaction") == 1
    assert types.count("task_completed") == types.count("task_started") == 4
