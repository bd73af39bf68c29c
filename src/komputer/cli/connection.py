"""The client with which commands call the API, and its token."""

import os
from pathlib import Path

from komputer.client import ApiError, Client

TOKEN, TOKEN_FILE = "KOMPUTER_TOKEN", "KOMPUTER_TOKEN_FILE"
"""Variables with a bearer token, or with the path of a file with one, which may be rotated. There is no flag for a
token, since every process on a machine can read the arguments of the others."""


def connected(api: str, namespace: str | None, *, timeout_s: float = 30.0) -> Client:
    """Return a client with the token from the environment, if there is one. The platform on a laptop needs none."""
    file = os.environ.get(TOKEN_FILE)
    if file:
        return Client(api, namespace, token=lambda: _read(Path(file)), timeout_s=timeout_s)
    return Client(api, namespace, token=os.environ.get(TOKEN) or None, timeout_s=timeout_s)


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8").strip()
    except OSError as wrong:
        raise ApiError(f"{TOKEN_FILE}: {path} cannot be read ({wrong.strerror})", "token_file_unreadable", 0) from wrong
