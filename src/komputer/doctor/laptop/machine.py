"""The platform of this machine, as seen from outside."""

import fcntl
import json
import os
from pathlib import Path
from typing import Any, Final

import aiohttp

TIMEOUT_S: Final = 5.0
"""How long an HTTP server of the platform may take to answer."""


class Machine:
    """The platform of this machine. Its data is in `data_dir`, and its API has the base URL `api`."""

    def __init__(self, data_dir: Path, api: str) -> None:
        self.data_dir = data_dir
        self.api = api

    def settings(self) -> dict[str, Any] | None:
        """Return the content of `komputer.json`; None if the file is missing or damaged."""
        try:
            found = json.loads((self.data_dir / "komputer.json").read_bytes())
            return found if isinstance(found["format"], int) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def is_running(self) -> bool:
        """Return whether a platform runs on the data directory. A running platform locks the directory itself, the file
        `lock`, or both, depending on the file system."""
        return self.settings() is not None and any(map(_is_locked, (self.data_dir, self.data_dir / "lock")))

    async def get(self, url: str) -> tuple[int, Any]:
        """Return the HTTP status of a local URL and its JSON body (None if the body is not JSON). Raises
        `aiohttp.ClientError`, `TimeoutError`."""
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as http, http.get(url) as answer:
            try:
                return answer.status, json.loads(await answer.read())
            except ValueError:
                return answer.status, None


def _is_locked(path: Path) -> bool:
    try:
        held = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # NFS does not lock directories
        return False
    finally:
        os.close(held)
    return False
