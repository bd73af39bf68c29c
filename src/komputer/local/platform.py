"""The platform on one machine as values: the options of `komputer up`, and the values that every part needs."""

import contextlib
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from komputer.bootstrap.backends import Backends
from komputer.local import valkey
from komputer.local.apiserver import ensure_kubeconfig
from komputer.local.datadir import DataDir
from komputer.local.kubelet import Sandbox

LAST_LINES = 12
"""How many lines of a part's log are printed when it fails repeatedly."""


@dataclass(frozen=True)
class Options:
    """Options of `komputer up`."""

    host: str = "127.0.0.1"
    port: int = 8080
    """The API's port. 0: the system chooses a free one."""
    data_dir: Path | None = None
    """The data directory. None: `$XDG_DATA_HOME/komputer` or `~/.local/share/komputer`."""
    offline: bool = False
    """Whether to use the offline model even if there is a credential."""
    sandbox: Literal["auto", "bubblewrap", "none"] = "auto"
    log_level: str = "info"
    log_format: Literal["text", "json"] = "text"
    create_status: int | None = None
    """HTTP status of every accepted `POST /agents`; see `ApiSettings.create_status`."""


@dataclass(frozen=True)
class Sockets:
    """The listening sockets of the parts. The parent opens them, so a part that restarts keeps its address, and clients
    that connect meanwhile wait and do not fail."""

    api: socket.socket
    kubernetes: socket.socket
    gateway: socket.socket
    model: socket.socket

    def url(self, part: socket.socket) -> str:
        host, port = part.getsockname()[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    @property
    def ports(self) -> frozenset[int]:
        return frozenset(each.getsockname()[1] for each in (self.api, self.kubernetes, self.gateway, self.model))


@dataclass(frozen=True)
class Platform:
    """The values that the parts share. `options.offline` is set whenever the offline model is used, even if the reason
    is that there is no credential. `unready` returns the names of the parts that are not ready."""

    data: DataDir
    sockets: Sockets
    options: Options
    sandbox: Sandbox
    unready: Callable[[], list[str]]

    @property
    def backends(self) -> Backends:
        return Backends(self.data.kubeconfig, valkey.url(self.data.valkey))

    def restore(self) -> None:
        """Create the files and folders that the parts need in the data directory, if they were removed or changed.
        Raises `OSError`."""
        self.data.restore()
        ensure_kubeconfig(self.data.kubeconfig, self.sockets.url(self.sockets.kubernetes), self.data.token)

    def watch(self) -> str | None:
        """Restore missing files. Return why the platform must stop, or None. The parent calls it every 2 s."""
        if lost := self.data.why_lost():
            return lost
        with contextlib.suppress(OSError):  # a full disk: the next call tries again
            self.restore()
        return None

    def last_lines(self, part: str) -> list[str]:
        """Return the last lines of a part's log."""
        found = []
        for name in (part, f"{part}-server"):
            with contextlib.suppress(OSError):
                with (self.data.logs / f"{name}.log").open("rb") as file:
                    file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
                    lines = file.read().decode("utf-8", "replace").splitlines()
                found += [line[:300] for line in lines if line.strip()][-LAST_LINES:]
        return found
