"""The model's credential on its way from the environment to the gateway, and nowhere else.

`komputer up` begins by moving it from its environment into a file without a name and starting itself anew without the
variables: `/proc/PID/environ` of no part shows it, and only the gateway reads the file.
"""

import json
import os
import sys
import tempfile
from collections.abc import Mapping
from typing import Literal, NamedTuple

VARIABLES = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL")
HANDLE = "KOMPUTER_CREDENTIAL_FD"
ANTHROPIC = "https://api.anthropic.com"


class ModelAccess(NamedTuple):
    """Where the model is and how to be let in. `kind` is `api_key` (x-api-key) or `bearer` (Authorization)."""

    base_url: str
    kind: Literal["api_key", "bearer"]
    value: str


def from_environment(environment: Mapping[str, str]) -> ModelAccess | None:
    """What the caller's environment says; None without a credential. The key wins over the token."""
    base_url = environment.get("ANTHROPIC_BASE_URL") or ANTHROPIC
    if key := environment.get("ANTHROPIC_API_KEY"):
        return ModelAccess(base_url, "api_key", key)
    if token := environment.get("ANTHROPIC_AUTH_TOKEN"):
        return ModelAccess(base_url, "bearer", token)
    return None


def leave_environment() -> None:
    """Replaces this process by itself without the variables, the credential in an unnamed file. Returns where there
    is nothing to hide (any more)."""
    if not any(name in os.environ for name in VARIABLES):
        return
    environment = {key: value for key, value in os.environ.items() if key not in VARIABLES}
    access = from_environment(os.environ)
    if access:
        with tempfile.TemporaryFile() as file:
            handle = os.dup(file.fileno())
        os.write(handle, json.dumps(access).encode())
        os.set_inheritable(handle, True)
        environment[HANDLE] = str(handle)
    os.execve(sys.executable, [sys.executable, "-P", "-m", "komputer.cli", *sys.argv[1:]], environment)


def handle() -> int | None:
    """The file's descriptor, if a credential was given."""
    value = os.environ.get(HANDLE, "")
    return int(value) if value.isdigit() else None


def read(descriptor: int) -> ModelAccess:
    """In the gateway's process only; may be read again after a restart."""
    size = os.fstat(descriptor).st_size
    return ModelAccess(*json.loads(os.pread(descriptor, size, 0)))
