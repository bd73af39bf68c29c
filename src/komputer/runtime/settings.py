"""What the pod tells the runtime, and where things are on the workspace."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from komputer.domain import names
from komputer.domain.errors import Invalid

STOP_GRACE_S: Final = 20.0
"""How long after SIGTERM everything may take: below Kubernetes' 30 s (terminationGracePeriodSeconds)."""

BACKGROUND_LIMIT_S: Final = 86_400
"""The most that KOMPUTER_BACKGROUND_SECONDS may be: a day."""

_KEPT: Final = ("PATH", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "TERM", "USER", "LOGNAME", "SHELL")
_KEPT_PREFIXES: Final = ("SECRET_", "SSL_CERT_")


@dataclass(frozen=True, kw_only=True)
class RuntimeSettings:
    gateway_url: str
    token_file: Path
    workspace: Path
    agent: str
    namespace: str
    log_level: str = "INFO"
    background_s: float = 600.0
    """How long, after the last answer, a task waits for commands in the background (KOMPUTER_BACKGROUND_SECONDS). Ten
    minutes, as the CLI itself waits for them; then they are ended with the task, which says so."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> RuntimeSettings:
        """From the `KOMPUTER_*` variables. Raises `Invalid` for one that is missing."""

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
        """The runtime's own folder, private to it."""
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
        """Of MCP: the connectors of the present attempt, and its key."""
        return self.state / "servers.json"

    @property
    def claude_process(self) -> Path:
        """Which process Claude is, or was."""
        return self.state / "claude.pid"

    @property
    def claude(self) -> Path:
        """Claude's configuration and transcripts."""
        return self.workspace / ".claude"

    @property
    def temporary_name(self) -> str:
        """Of the folder for temporary files. Short: sockets in it must stay below 108 characters."""
        return "komputer-" + hashlib.sha256(f"{self.workspace}".encode()).hexdigest()[:12]


def kept(environment: Mapping[str, str]) -> dict[str, str]:
    """Of the environment what Claude's tools are to see: they inherit all that stands in ours."""
    return {name: value for name, value in environment.items() if name in _KEPT or name.startswith(_KEPT_PREFIXES)}
