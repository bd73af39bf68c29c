"""Platforms for the end-to-end tests."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.laptop import Laptop
from tests.e2e.recorder import Recorder, recording


@pytest.fixture(scope="session")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laptop]:
    """One platform for all tests that do not break it; each uses agents of its own."""
    platform = Laptop(tmp_path_factory.mktemp("komputer")).start()
    yield platform
    assert platform.stop() == 0


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
