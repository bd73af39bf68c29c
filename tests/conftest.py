"""What all tests share."""

import os

from hypothesis import settings

pytest_plugins = ["tests.fixtures.valkey"]

# In CI the same examples each time: a change is judged by what it changed. Elsewhere they are drawn anew.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")
