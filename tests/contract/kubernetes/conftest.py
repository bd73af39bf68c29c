"""The server under test, the kinds of the tests, and a namespace for each test."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.contract.kubernetes.cluster import Api, answered, read_kubeconfig
from tests.contract.kubernetes.room import CRDS, NAMESPACES, Room, established
from tests.contract.kubernetes.widgets import gadgets, widgets


@pytest.fixture(scope="session")
def api(kubeconfig: Path) -> Iterator[Api]:
    """The administrator's connection."""
    api = Api(read_kubeconfig(kubeconfig))
    yield api
    api.close()


@pytest.fixture(scope="session")
def group(api: Api) -> Iterator[str]:
    """An API group for this session, with Widget and Gadget served in version v1; removed at the end."""
    group = f"c{uuid4().hex[:8]}.contract.komputer.ai"
    definitions = [widgets(group), gadgets(group)]
    for definition in definitions:
        answered(api.post(CRDS, definition), 201)
    for definition in definitions:
        established(api, definition["metadata"]["name"])
    yield group
    for definition in definitions:
        api.delete(f"{CRDS}/{definition['metadata']['name']}")


@pytest.fixture
def room(api: Api, group: str) -> Iterator[Room]:
    """A namespace for this test. Its removal is requested at the end but not awaited."""
    namespace = f"contract-{uuid4().hex[:12]}"
    answered(api.post(NAMESPACES, {"metadata": {"name": namespace}}), 201)
    yield Room(api=api, namespace=namespace, group=group)
    api.delete(f"{NAMESPACES}/{namespace}")
