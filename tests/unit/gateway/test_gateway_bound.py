"""How much may be under way at once."""

from contextlib import ExitStack

import pytest

from komputer.domain.errors import TooManyRequests
from komputer.gateway.errors import Overloaded
from komputer.gateway.quota import Quota, Take


def filled(take: Take) -> int:
    """How much could be taken, bit by bit."""
    taken = 0
    while True:
        try:
            take(1)
        except (TooManyRequests, Overloaded):
            return taken
        taken += 1


def test_an_agent_gets_its_share_and_what_it_gave_back_again() -> None:
    bound = Quota("requests", in_all=100, of_one=2)
    with bound.held("ada", 1):
        with bound.held("ada", 1):
            with pytest.raises(TooManyRequests), bound.held("ada", 1):
                raise AssertionError("a third")
            with bound.held("bob", 2):
                pass
        with bound.held("ada", 1):
            pass
    assert not bound._taken, "nothing is kept of agents that have nothing under way"


def test_what_is_taken_bit_by_bit_is_given_back_at_the_end_also_where_it_was_too_much() -> None:
    bound = Quota("bytes", in_all=100, of_one=10)
    for _ in range(3):
        with bound.held("ada") as take:
            assert filled(take) == 10
    with bound.held("ada", 10):
        pass


def test_agents_that_take_all_they_can_leave_something_to_the_next() -> None:
    bound = Quota("bytes", in_all=1000, of_one=300)
    taken = []
    with ExitStack() as held:
        for n in range(20):
            taken.append(filled(held.enter_context(bound.held(f"greedy-{n}"))))
            assert sum(taken) < 1000
        assert taken[:6] == [300, 300, 200, 100, 50, 25]
    with bound.held("ada", 300):
        pass


def test_a_full_process_is_no_fault_of_the_agent() -> None:
    bound = Quota("requests", in_all=10, of_one=9)
    with bound.held("bob", 5), pytest.raises(Overloaded), bound.held("ada", 3):
        raise AssertionError("more than is left")
