"""One instance of each server, shared by all tests of this folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.http.servers import NAMES, Server, served
from tests.fixtures.valkey import LogServer


@pytest.fixture(scope="session", params=NAMES)
def server(
    request: pytest.FixtureRequest, kubeconfig: Path, valkey: LogServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    with served(request.param, kubeconfig, valkey.url, tmp_path_factory.mktemp(request.param)) as running:
        yield running
