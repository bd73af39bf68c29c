"""What all tests share."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.fixtures.kubernetes", "tests.fixtures.valkey"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--kubeconfig",
        action="append",
        help="the API server to judge (default: the local one is started); once per worker with -n, which share none",
    )
    parser.addoption("--node", type=Path, help="the folder of a node with the platform: end-to-end tests run on that")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Two workers more than cores: most tests of processes wait longer than they compute."""
    return (os.cpu_count() or 1) + 2


def pytest_configure(config: pytest.Config) -> None:
    """Reduce `--kubeconfig` to the API server of this worker. A worker has one of its own because operator tests run an
    operator that acts on every agent it finds there."""
    given = config.option.kubeconfig
    if given and (hasattr(config, "workerinput") or not config.getoption("numprocesses", None)):
        number = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
        config.option.kubeconfig = Path(given[int(number)])


# How long an example takes says nothing on a machine that others work on too: Hypothesis' own limit is 0.2 s.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# In CI the same examples each time: a change is judged by what it changed. Elsewhere they are drawn anew.
settings.register_profile("ci", settings.get_profile("patient"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "patient")
