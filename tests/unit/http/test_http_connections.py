"""Which connections a full server closes, and which it refuses."""

from dataclasses import dataclass

import pytest

from komputer.http.connections import Connections, Slot, totals
from komputer.http.limits import Limits


@dataclass(eq=False)
class Connection:
    idle_since: float | None
    is_evicted: bool = False

    def evict(self) -> None:
        self.is_evicted = True


def connections_with(limit: int, per_address: int) -> Connections:
    return Connections(Limits(connections=limit, connections_per_address=per_address))


def test_a_full_server_closes_the_oldest_idle_connection_for_a_new_one() -> None:
    connections, idle = connections_with(3, 3), [Connection(2.0), Connection(1.0), Connection(None)]
    for each in idle:
        assert connections.admit(each, "10.0.0.1", 5)
    assert connections.admit(Connection(3.0), "10.0.0.2", 5)
    assert [each.is_evicted for each in idle] == [False, True, False]
    assert len(connections) == 3


def test_a_server_full_of_busy_connections_refuses_and_is_not_ready() -> None:
    connections = connections_with(2, 2)
    slots = [connections.admit(Connection(None), f"10.0.0.{n}", 5) for n in range(2)]
    before = totals.refused.get("too_many_connections", 0)
    assert connections.admit(Connection(0.0), "10.0.0.9", 5) is None
    assert totals.refused["too_many_connections"] == before + 1
    assert "no room for more connections" in (totals.shortage() or "")
    assert isinstance(slots[0], Slot)
    connections.release(slots[0])
    assert connections.admit(Connection(0.0), "10.0.0.9", 5)


def test_one_address_cannot_use_up_all_connections() -> None:
    connections = connections_with(10, 2)
    for _ in range(2):
        assert connections.admit(Connection(None), "10.0.0.1", 5)
    assert connections.admit(Connection(None), "10.0.0.1", 5) is None
    assert connections.admit(Connection(None), "10.0.0.2", 5)


@pytest.mark.parametrize(
    ("first", "second", "count_as_one"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("", "", False),
    ],
)
def test_an_ipv6_network_counts_as_one_address(first: str, second: str, count_as_one: bool) -> None:
    connections = connections_with(10, 1)
    assert connections.admit(Connection(None), first, 5)
    assert (connections.admit(Connection(None), second, 5) is None) is count_as_one


def test_connections_cannot_use_the_last_descriptors() -> None:
    connections, idle = connections_with(10, 10), Connection(1.0)
    assert connections.admit(idle, "10.0.0.1", 5)
    assert connections.admit(Connection(None), "10.0.0.1", 2**31 - 1), "an idle one makes room"
    assert idle.is_evicted
    assert connections.admit(Connection(None), "10.0.0.1", 2**31 - 1) is None
