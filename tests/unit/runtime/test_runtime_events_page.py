"""The page about events names all that there is."""

from pathlib import Path

import pytest

from komputer.events.schema import TEXT_LIMIT, TYPES
from komputer.operator.agent.endings import CODES
from komputer.runtime.task.plan import CAUSES

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "events.md").read_text()


@pytest.mark.parametrize("name", sorted({*TYPES, *CAUSES, *CODES.values()}))
def test_the_page_names_every_type_cause_and_code(name: str) -> None:
    assert f"`{name}`" in PAGE


def test_the_page_gives_the_size_at_which_texts_are_cut() -> None:
    assert f"{TEXT_LIMIT:,}" in PAGE
