"""Platforms for the end-to-end tests: on this machine (default), or on a cluster (`--node DIR`)."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest

from tests.e2e.cluster import Cluster
from tests.e2e.laptop import Laptop
from tests.e2e.platform import Platform
from tests.e2e.recorder import Recorder, recording

LAST = ("test_rights.py", "test_changed_rights.py")
"""What all others have led to is judged, and then rights are changed."""
ON_BOTH = ("platform", "own_platform", "compat")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of tests that make a laptop of their own nothing is to be seen on a cluster, and of a cluster's nothing here."""
    node = config.getoption("node")

    def is_for(item: pytest.Item) -> bool:
        fixtures = set(getattr(item, "fixturenames", ()))
        if "e2e" not in Path(str(item.path)).parts:
            return node is None
        if node is None:
            return "cluster" not in fixtures
        return bool(fixtures & {"cluster", *ON_BOTH}) and not fixtures & {"laptop", "new_laptop"}

    kept = [item for item in items if is_for(item)]
    kept.sort(key=lambda item: LAST.index(item.path.name) if item.path.name in LAST else -1)
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


@pytest.fixture(scope="session")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laptop]:
    """One platform on this machine for all tests that do not break it; each uses agents of its own."""
    platform = Laptop(tmp_path_factory.mktemp("komputer")).start()
    yield platform
    assert platform.stop() == 0


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """The platform on the node of `--node`."""
    platform = Cluster(request.config.getoption("node"), os.environ.get("KOMPUTER_TOKEN"))
    platform.ready()
    platform.emptied()
    yield platform
    platform.http.close()


@pytest.fixture(scope="session")
def platform(request: pytest.FixtureRequest) -> Platform:
    """The same tests on every engine."""
    chosen: Platform = request.getfixturevalue("cluster" if request.config.getoption("node") else "laptop")
    return chosen


@pytest.fixture
def new_laptop(tmp_path: Path) -> Iterator[Callable[..., Laptop]]:
    """Makes platforms that a test may kill; what still runs at its end is stopped."""
    made: list[Laptop] = []

    def make(*options: str, data_dir: Path | None = None, environment: dict[str, str] | None = None) -> Laptop:
        platform = Laptop(data_dir or tmp_path / f"data{len(made)}", *options, environment=environment)
        made.append(platform)
        return platform.start()

    yield make
    for platform in made:
        if platform.process and platform.process.poll() is None:
            platform.stop()


@pytest.fixture
def own_platform(request: pytest.FixtureRequest) -> Platform:
    """One that a test may kill as a whole."""
    if request.config.getoption("node"):
        return cast(Platform, request.getfixturevalue("cluster"))
    return cast(Platform, request.getfixturevalue("new_laptop")())


@pytest.fixture(scope="module")
def compat(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """As published clients want it: 200 for every new agent, and nobody is asked who they are."""
    if request.config.getoption("node"):
        cluster: Cluster = request.getfixturevalue("cluster")
        cluster.upgrade("--set", "api.compatCreateStatus=200,api.auth=none,api.allowAnonymousRemote=true")
        yield cluster
        cluster.upgrade()
        return
    laptop = Laptop(tmp_path_factory.mktemp("compat"), "--compat-create-status", "200").start()
    yield laptop
    assert laptop.stop() == 0


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    with recording() as found:
        yield found
