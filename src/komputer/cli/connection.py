"""How commands reach the API, and as whom."""

import os
from pathlib import Path

from komputer.client import ApiError, Client

TOKEN, TOKEN_FILE = "KOMPUTER_TOKEN", "KOMPUTER_TOKEN_FILE"
"""A bearer token, or where one stands and is rotated. No flag: arguments are seen by every process of a machine."""


def connected(api: str, namespace: str | None, *, timeout_s: float = 30.0) -> Client:
    """As whoever the environment's token speaks for; the laptop's platform wants none."""
    file = os.environ.get(TOKEN_FILE)
    if file:
        return Client(api, namespace, token=lambda: _read(Path(file)), timeout_s=timeout_s)
    return Client(api, namespace, token=os.environ.get(TOKEN) or None, timeout_s=timeout_s)


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8").strip()
    except OSError as wrong:
        raise ApiError(f"{TOKEN_FILE}: {path} cannot be read ({wrong.strerror})", "token_file_unreadable", 0) from wrong
