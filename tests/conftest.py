"""What all tests share."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

pytest_plugins = ["tests.fixtures.valkey"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kubeconfig", type=Path, help="the API server to judge (default: the local one is started)")
    parser.addoption("--node", type=Path, help="the folder of a node with the platform: end-to-end tests run on that")


# In CI the same examples each time: a change is judged by what it changed. Elsewhere they are drawn anew.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")
