from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from komputer.events.log import Log
from tests.contract.runtime.platform import Platform, Pod
from tests.fixtures.valkey import LogServer


@pytest.fixture
async def platform(valkey: LogServer) -> AsyncIterator[Platform]:
    log = Log.connect(valkey.url, prefix=valkey.prefix())
    platform = Platform(log)
    await platform.start()
    yield platform
    await platform.stop()
    await log.close()


@pytest.fixture
async def pod(platform: Platform, tmp_path: Path) -> AsyncIterator[Pod]:
    """Not started yet."""
    pod = Pod(platform, tmp_path)
    yield pod
    await pod.take_down()
