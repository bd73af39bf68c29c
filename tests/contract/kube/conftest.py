"""The local Kubernetes API (or one that `--kubeconfig` names) with our definitions, and a namespace for each test."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from komputer.domain import crds
from komputer.domain.errors import Unavailable
from komputer.kube import AGENTS, CRDS, NAMESPACES, SERVICE_ACCOUNTS, Cluster, Kind
from tests.waiting import eventually

DEADLINE_S = 30


@pytest.fixture
async def cluster(kubeconfig: Path) -> AsyncIterator[Cluster]:
    cluster = Cluster.connect(kubeconfig)
    try:
        there = {each["metadata"]["name"] for each in (await cluster.list(CRDS)).items}
        for definition in crds.manifests():
            if definition["metadata"]["name"] not in there:
                await cluster.create(CRDS, definition)
        async with asyncio.timeout(DEADLINE_S):
            while not await is_served(cluster, AGENTS):  # noqa: ASYNC110 - nobody tells when
                await asyncio.sleep(0.05)
        yield cluster
    finally:
        await cluster.close()


async def is_served(cluster: Cluster, kind: Kind) -> bool:
    try:
        await cluster.list(kind)
    except Unavailable as missing:
        if missing.code == "kind_missing":
            return False
        raise
    return True


@pytest.fixture
async def team(cluster: Cluster) -> AsyncIterator[str]:
    """A namespace in which pods can be made. Its removal is asked for at the end and not awaited."""
    name = f"kube-{uuid4().hex[:12]}"
    await cluster.create(NAMESPACES, {"metadata": {"name": name}})

    async def has_account() -> bool:
        """A controller makes it; before that a real API server refuses pods."""
        return any(each["metadata"]["name"] == "default" for each in (await cluster.list(SERVICE_ACCOUNTS, name)).items)

    await eventually(has_account, DEADLINE_S)
    yield name
    await cluster.delete(NAMESPACES, name)
