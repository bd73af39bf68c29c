"""Leader election with a Lease, against a real API server only: nothing on one machine uses it."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from komputer.kube import Cluster, lease
from komputer.kube.kinds import LEASES
from komputer.kube.lease import LeadershipLost, Lease

NAME = "contract"
WITHIN_S = 30.0


@pytest.fixture
async def cluster(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cluster]:
    given: Path | None = request.config.getoption("kubeconfig", default=None)
    if given is None:
        pytest.skip("leader election is tested against a real API server: make test-kubernetes")
    for name, seconds in (("DURATION_S", 4.0), ("GIVE_UP_S", 2.5), ("RETRY_S", 0.3)):
        monkeypatch.setattr(lease, name, seconds)
    cluster = Cluster.connect(given)
    yield cluster
    await cluster.delete(LEASES, NAME, "default")
    await cluster.close()


async def acquired(own: Lease) -> bool:
    async with asyncio.timeout(WITHIN_S):
        return await own.acquired(asyncio.Event(), lambda: None)


async def test_a_released_lease_is_acquired_at_once(cluster: Cluster) -> None:
    first, second = (Lease(cluster, "default", NAME, name) for name in ("first", "second"))
    stood_by = asyncio.Event()
    assert await acquired(first)
    async with first.kept():
        waiting = asyncio.create_task(second.acquired(asyncio.Event(), stood_by.set))
        await stood_by.wait()
        await asyncio.sleep(5)
        assert not waiting.done(), "a renewed lease stays with its holder"
        assert (first.is_held, second.is_held) == (True, False)
    async with asyncio.timeout(lease.GIVE_UP_S):
        assert await waiting
    found = await cluster.get(LEASES, NAME, "default")
    assert found["spec"]["holderIdentity"] == "second"
    assert found["spec"]["leaseTransitions"] == 1


async def test_a_lease_that_is_not_renewed_is_acquired_and_its_holder_ends(cluster: Cluster) -> None:
    hanging, other = (Lease(cluster, "default", NAME, name) for name in ("hanging", "other"))
    assert await acquired(hanging)
    assert await acquired(other)
    with pytest.raises(LeadershipLost, match="another process took the lease"):
        async with asyncio.timeout(WITHIN_S), hanging.kept():
            await asyncio.Event().wait()


async def test_a_holder_that_cannot_renew_ends_before_the_lease_expires(
    cluster: Cluster, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    nowhere = yaml.safe_load(request.config.getoption("kubeconfig").read_text())
    nowhere["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    (tmp_path / "nowhere").write_text(yaml.safe_dump(nowhere))
    lonely = Lease(cluster, "default", NAME, "lonely")
    assert await acquired(lonely)
    lonely._cluster = Cluster.connect(tmp_path / "nowhere")
    began = time.monotonic()
    with pytest.raises(LeadershipLost, match="not renewed in time"):
        async with asyncio.timeout(WITHIN_S), lonely.kept():
            await asyncio.Event().wait()
    assert time.monotonic() - began < lease.DURATION_S + 1
    await lonely._cluster.close()
