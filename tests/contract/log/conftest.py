"""The log on every server that this machine has."""

from collections.abc import AsyncIterator, Iterator

import pytest

from komputer.events.log import Log
from tests.fixtures.valkey import LogServer, engines, running


@pytest.fixture(scope="session", params=engines())
def server(request: pytest.FixtureRequest) -> Iterator[LogServer]:
    yield from running(request.param)


@pytest.fixture
async def log(server: LogServer) -> AsyncIterator[Log]:
    log = Log.connect(server.url, prefix=server.prefix())
    yield log
    await log.close()


@pytest.fixture
async def short_log(server: LogServer) -> AsyncIterator[Log]:
    """Keeps ten events."""
    log = Log.connect(server.url, prefix=server.prefix(), retention=10)
    yield log
    await log.close()
