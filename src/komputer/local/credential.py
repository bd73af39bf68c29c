"""The model's credential on a laptop: how it gets from the environment to the gateway, and to no other process.

`komputer up` first moves it from its environment into an unnamed file, and executes itself again without the variables.
So it is in no process's `/proc/PID/environ`, and only the gateway reads the file.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import Literal, NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from komputer.domain.errors import Invalid

VARIABLES = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL")
HANDLE = "KOMPUTER_CREDENTIAL_FD"
ADDRESS = "KOMPUTER_MODEL_ADDRESS"
"""Variable with the address that the credential is sent to, for the messages of `komputer up`."""
PROBLEM = "KOMPUTER_CREDENTIAL_PROBLEM"
"""Variable with the reason why the credential of the environment cannot be used."""
UNUSED = "KOMPUTER_VARIABLE_UNUSED"
"""Variable with the name of another variable, which has no effect because there is no credential."""
REACH_S = 3.0
"""How long `komputer up` tries to reach the model's address when it starts."""
ANTHROPIC = "https://api.anthropic.com"


class ModelAccess(NamedTuple):
    """The address of the model and the credential for it, sent as `x-api-key` (`api_key`) or `Authorization`
    (`bearer`)."""

    base_url: str
    kind: Literal["api_key", "bearer"]
    value: str


def from_environment(environment: Mapping[str, str]) -> ModelAccess | None:
    """Return the access that the environment gives, or None without a credential. The key takes precedence over the
    token. Raises `Invalid` for values that cannot work; the message contains no secret."""
    base_url = environment.get("ANTHROPIC_BASE_URL") or ANTHROPIC
    kinds: dict[str, Literal["api_key", "bearer"]] = {"ANTHROPIC_API_KEY": "api_key", "ANTHROPIC_AUTH_TOKEN": "bearer"}
    for variable, kind in kinds.items():
        if value := environment.get(variable):
            return ModelAccess(_checked_url(base_url), kind, _checked_value(variable, value))
    return None


def _checked_value(variable: str, value: str) -> str:
    """Return a value that can be sent in a header. Raises `Invalid`."""
    if not value.isascii() or not value.isprintable() or " " in value:
        what = "a line break" if "\n" in value or "\r" in value else "a character that no credential has"
        raise Invalid(f"{variable} contains {what}; set it to the credential alone, without spaces around it")
    return value


def _checked_url(url: str) -> str:
    """Return the address of an HTTP server. It is printed, so it must not contain a credential. Raises `Invalid`."""
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        has_credential = parts.username is not None or parts.password is not None
    except ValueError:
        is_address = has_credential = False
    if has_credential:
        raise Invalid("ANTHROPIC_BASE_URL contains a user or a password; give the credential in ANTHROPIC_API_KEY")
    if not is_address or not url.isascii() or not url.isprintable() or " " in url or "?" in url or "#" in url:
        raise Invalid(f"ANTHROPIC_BASE_URL is not an address of a server: {url!r}; it looks like {ANTHROPIC}")
    return url


def leave_environment() -> None:
    """Execute this program again without the variables. It inherits an unnamed file with the credential. Return only if
    the environment has none of the variables."""
    if not any(name in os.environ for name in VARIABLES):
        return
    environment = {key: value for key, value in os.environ.items() if key not in VARIABLES}
    access = None
    try:
        access = from_environment(os.environ)
    except Invalid as wrong:  # `up` refuses it, unless the offline model is used
        environment[PROBLEM] = wrong.message
    if access:
        with tempfile.TemporaryFile() as file:
            handle = os.dup(file.fileno())
        os.write(handle, json.dumps(access).encode())
        os.set_inheritable(handle, True)
        environment |= {HANDLE: str(handle), ADDRESS: access.base_url}
    elif PROBLEM not in environment and os.environ.get("ANTHROPIC_BASE_URL"):
        environment[UNUSED] = "ANTHROPIC_BASE_URL"
    # A Ctrl-C from here on stays pending until the new program has its handler and unblocks SIGINT (`startup.begin`).
    # Otherwise it could end that program with a traceback.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    os.execve(sys.executable, [sys.executable, "-P", "-m", "komputer.cli", *sys.argv[1:]], environment)


def why_unreachable(base_url: str) -> str | None:
    """Return why no connection can be opened to the model's address (or to the proxy that the environment names for
    it), or None. Takes at most `REACH_S`. Sends nothing."""
    parts = urlsplit(_proxy(base_url) or base_url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    # This runs in a child process, which can be killed: to resolve a name can take much longer than `REACH_S`.
    program = "import socket,sys\ntry: socket.create_connection((sys.argv[1],int(sys.argv[2])),5)\n"
    program += "except OSError as e: sys.exit(e.strerror or str(e))"
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", program, parts.hostname or "", str(port)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=REACH_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {REACH_S:.0f} s"
    return None if done.returncode == 0 else done.stderr.strip().splitlines()[-1][:200] if done.stderr.strip() else "?"


def _proxy(base_url: str) -> str | None:
    """Return the proxy that the gateway uses for this address (see `gateway.model.upstream`)."""
    parts = urlsplit(base_url)
    return None if not parts.hostname or proxy_bypass(parts.hostname) else getproxies().get(parts.scheme)


def handle() -> int | None:
    """Return the descriptor of the unnamed file, or None without a credential."""
    value = os.environ.get(HANDLE, "")
    return int(value) if value.isdigit() else None


def read(descriptor: int) -> ModelAccess:
    """Return the credential. Only the gateway's process calls this; after a restart it reads the file again."""
    size = os.fstat(descriptor).st_size
    return ModelAccess(*json.loads(os.pread(descriptor, size, 0)))
