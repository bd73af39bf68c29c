"""What all tests share."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.fixtures.valkey"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kubeconfig", type=Path, help="the API server to judge (default: the local one is started)")
    parser.addoption("--node", type=Path, help="the folder of a node with the platform: end-to-end tests run on that")


# How long an example takes says nothing on a machine that others work on too: Hypothesis' own limit is 0.2 s.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# In CI the same examples each time: a change is judged by what it changed. Elsewhere they are drawn anew.
settings.register_profile("ci", settings.get_profile("patient"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "patient")
