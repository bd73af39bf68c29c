"""The rules hold within small bounds, and each of them is missed when it is off. `make model` goes further."""

import pytest

from tests.model.configurations import EVERYTHING, SHOWS, SMALL, Configuration
from tests.model.rules import RULES
from tests.model.search import explore, walk
from tests.model.system import System


@pytest.mark.parametrize("configuration", SMALL, ids=str)
def test_with_all_rules_nothing_goes_wrong(configuration: Configuration) -> None:
    found = explore(System(**configuration), seconds=60)
    assert found.violation is None, "\n".join(found.trace)
    assert found.is_complete
    assert found.comes_to_rest


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_that_is_off_is_missed(rule: str) -> None:
    assert explore(System([rule], **SHOWS[rule]), seconds=60).violation is not None


def test_nothing_goes_wrong_where_everything_happens_at_once() -> None:
    found = walk(System(**EVERYTHING), seconds=5)
    assert found.violation is None, "\n".join(found.trace)
    assert found.worlds > 100
