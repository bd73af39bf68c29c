"""Platforms for the end-to-end tests: on this machine (default), or on a cluster (`--node DIR`)."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.cluster import Cluster
from tests.e2e.laptop import Laptop
from tests.e2e.platform import Platform
from tests.e2e.recorder import Recorder, recording


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of tests that make a laptop of their own nothing is to be seen on a cluster, and of a cluster's nothing here."""
    node = config.getoption("node")

    def is_for(item: pytest.Item) -> bool:
        fixtures = set(getattr(item, "fixturenames", ()))
        if "e2e" not in Path(str(item.path)).parts:
            return node is None
        return (
            "cluster" in fixtures or ("platform" in fixtures and "laptop" not in fixtures)
            if node
            else ("cluster" not in fixtures)
        )

    kept = [item for item in items if is_for(item)]
    kept.sort(key=lambda item: item.path.name == "test_rights.py")  # it judges what all others have led to
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
def recorder() -> Iterator[Recorder]:
    with recording() as found:
        yield found
