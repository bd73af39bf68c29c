"""The runtime's settings from the pod's environment, and the paths on the workspace."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from komputer.domain import names
from komputer.domain.errors import Invalid

STOP_GRACE_S: Final = 20.0
"""How long a shutdown may take: below Kubernetes' 30 s (terminationGracePeriodSeconds)."""

BACKGROUND_LIMIT_S: Final = 86_400
"""The largest KOMPUTER_BACKGROUND_SECONDS: a day."""

_KEPT: Final = ("PATH", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "TERM", "USER", "LOGNAME", "SHELL")
_KEPT_PREFIXES: Final = ("SECRET_", "SSL_CERT_")


@dataclass(frozen=True, kw_only=True)
class RuntimeSettings:
    """The settings of one runtime process."""

    gateway_url: str
    token_file: Path
    workspace: Path
    agent: str
    namespace: str
    log_level: str = "INFO"
    background_s: float = 600.0
    """How long a task waits after its last answer for commands in the background (KOMPUTER_BACKGROUND_SECONDS). The
    default is ten minutes, as in the CLI itself; then the commands are ended, and the task's result says so."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> RuntimeSettings:
        """Read the `KOMPUTER_*` variables. Raises `Invalid` if one is missing or invalid."""

        def required(name: str) -> str:
            if not environment.get(name):
                raise Invalid(f"{name} is not set: the runtime is started by the platform, inside an agent's pod.")
            return environment[name]

        background = environment.get("KOMPUTER_BACKGROUND_SECONDS") or "600"
        if not background.isdecimal() or int(background) > BACKGROUND_LIMIT_S:
            raise Invalid(f"KOMPUTER_BACKGROUND_SECONDS is {background!r}: whole seconds up to {BACKGROUND_LIMIT_S}.")
        return cls(
            gateway_url=required("KOMPUTER_GATEWAY_URL").rstrip("/"),
            token_file=Path(environment.get("KOMPUTER_TOKEN_FILE") or names.TOKEN_PATH),
            workspace=Path(environment.get("KOMPUTER_WORKSPACE") or names.WORKSPACE_PATH),
            agent=required("KOMPUTER_AGENT"),
            namespace=environment.get("KOMPUTER_NAMESPACE") or names.DEFAULT_NAMESPACE,
            log_level=environment.get("KOMPUTER_LOG_LEVEL") or "INFO",
            background_s=float(background),
        )

    @property
    def state(self) -> Path:
        """The runtime's own folder."""
        return self.workspace / ".komputer"

    @property
    def ledger(self) -> Path:
        return self.state / "ledger.db"

    @property
    def home(self) -> Path:
        return self.state / "home"

    @property
    def system_prompt(self) -> Path:
        return self.state / "system-prompt.md"

    @property
    def servers(self) -> Path:
        """The file with the MCP configuration of the present attempt: connectors and the key."""
        return self.state / "servers.json"

    @property
    def claude_process(self) -> Path:
        """The pid file of the last Claude process."""
        return self.state / "claude.pid"

    @property
    def claude(self) -> Path:
        """Claude's configuration and transcripts."""
        return self.workspace / ".claude"

    @property
    def temporary_name(self) -> str:
        """The name of the folder for temporary files. It is short, since paths of sockets in it are limited to 108
        characters."""
        return "komputer-" + hashlib.sha256(f"{self.workspace}".encode()).hexdigest()[:12]


def kept(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that Claude's tools may see, since they inherit the runtime's environment."""
    return {name: value for name, value in environment.items() if name in _KEPT or name.startswith(_KEPT_PREFIXES)}
