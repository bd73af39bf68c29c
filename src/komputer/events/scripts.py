"""The Lua scripts of the event log."""

from importlib.resources import files
from typing import Final

from komputer.redis.connection import Script


def _load(name: str) -> Script:
    return Script(files("komputer.events").joinpath(name).read_bytes())


APPEND: Final = _load("append.lua")
READ: Final = _load("read.lua")
