"""The model's credential on its way from the environment to the gateway, and nowhere else.

`komputer up` begins by moving it from its environment into a file without a name and starting itself anew without the
variables: `/proc/PID/environ` of no part shows it, and only the gateway reads the file.
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
"""For the start's messages: where the credential is sent."""
PROBLEM = "KOMPUTER_CREDENTIAL_PROBLEM"
"""Why what the environment said cannot be used."""
UNUSED = "KOMPUTER_VARIABLE_UNUSED"
"""A variable that has no effect, since there is no credential."""
REACH_S = 3.0
"""How long the start waits to find out whether the model's address can be reached."""
ANTHROPIC = "https://api.anthropic.com"


class ModelAccess(NamedTuple):
    """Where the model is and how to be let in. `kind` is `api_key` (x-api-key) or `bearer` (Authorization)."""

    base_url: str
    kind: Literal["api_key", "bearer"]
    value: str


def from_environment(environment: Mapping[str, str]) -> ModelAccess | None:
    """What the caller's environment says; None without a credential. The key wins over the token. Raises `Invalid`
    for what cannot work; the message holds no secret."""
    base_url = environment.get("ANTHROPIC_BASE_URL") or ANTHROPIC
    kinds: dict[str, Literal["api_key", "bearer"]] = {"ANTHROPIC_API_KEY": "api_key", "ANTHROPIC_AUTH_TOKEN": "bearer"}
    for variable, kind in kinds.items():
        if value := environment.get(variable):
            return ModelAccess(_checked_url(base_url), kind, _checked_value(variable, value))
    return None


def _checked_value(variable: str, value: str) -> str:
    """A value that can stand in a header."""
    if not value.isascii() or not value.isprintable() or " " in value:
        what = "a line break" if "\n" in value or "\r" in value else "a character that no credential has"
        raise Invalid(f"{variable} contains {what}; set it to the credential alone, without spaces around it")
    return value


def _checked_url(url: str) -> str:
    """An address of an HTTP server. What is in it is printed and sent, so no credential may be."""
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
    """Replaces this process by itself without the variables, the credential in an unnamed file. Returns where there
    is nothing to hide (any more)."""
    if not any(name in os.environ for name in VARIABLES):
        return
    environment = {key: value for key, value in os.environ.items() if key not in VARIABLES}
    access = None
    try:
        access = from_environment(os.environ)
    except Invalid as wrong:  # `up` refuses it, unless nobody needs it
        environment[PROBLEM] = wrong.message
    if access:
        with tempfile.TemporaryFile() as file:
            handle = os.dup(file.fileno())
        os.write(handle, json.dumps(access).encode())
        os.set_inheritable(handle, True)
        environment |= {HANDLE: str(handle), ADDRESS: access.base_url}
    elif PROBLEM not in environment and os.environ.get("ANTHROPIC_BASE_URL"):
        environment[UNUSED] = "ANTHROPIC_BASE_URL"
    # A Ctrl-C between here and the first line of the new program waits for it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    os.execve(sys.executable, [sys.executable, "-P", "-m", "komputer.cli", *sys.argv[1:]], environment)


def why_unreachable(base_url: str) -> str | None:
    """Why no connection to the model's address (or the proxy that the environment names for it) can be opened now;
    None where one can. Takes at most `REACH_S`. Nothing is sent."""
    parts = urlsplit(_proxy(base_url) or base_url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    # In a process of its own: a name that does not resolve can take longer than anybody wants to wait.
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
    """As the gateway chooses it (`gateway.upstream`)."""
    parts = urlsplit(base_url)
    return None if not parts.hostname or proxy_bypass(parts.hostname) else getproxies().get(parts.scheme)


def handle() -> int | None:
    """The file's descriptor, if a credential was given."""
    value = os.environ.get(HANDLE, "")
    return int(value) if value.isdigit() else None


def read(descriptor: int) -> ModelAccess:
    """In the gateway's process only; may be read again after a restart."""
    size = os.fstat(descriptor).st_size
    return ModelAccess(*json.loads(os.pread(descriptor, size, 0)))
