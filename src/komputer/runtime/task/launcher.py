"""Prepares the workspace for an attempt and starts Claude in it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from komputer.protocol import wire
from komputer.runtime import processes, workspace
from komputer.runtime.claude.options import Loopback, options, servers, system_prompt
from komputer.runtime.claude.process import Claude
from komputer.runtime.ledger.ledger import OpenTask
from komputer.runtime.settings import RuntimeSettings
from komputer.runtime.task.plan import Start

if TYPE_CHECKING:
    from komputer.runtime.proxy import Forwarder


class Launcher:
    """Starts the Claude CLI `cli` in the workspace. `temporary` is its TMPDIR. `forwarder` is awaited, since it may not
    be ready when the first task arrives."""

    def __init__(self, settings: RuntimeSettings, cli: Path, temporary: Path, forwarder: Awaitable[Forwarder]) -> None:
        self.settings = settings
        self._cli = cli
        self._temporary = temporary
        self._forwarder = asyncio.ensure_future(forwarder)

    async def forwarder(self) -> Forwarder:
        return await asyncio.shield(self._forwarder)

    async def rebuild(self) -> None:
        """Replace every file of the workspace that influences Claude. Raises `OSError`."""
        await asyncio.to_thread(workspace.rebuild, self.settings, self._temporary)

    async def prepare(self, task: OpenTask, loopback: Loopback) -> None:
        """Rebuild the workspace and write the files that Claude reads at its start. Raises `OSError`."""
        await self.rebuild()
        workspace.write_private(self.settings.system_prompt, system_prompt(task.settings))
        workspace.write_private(self.settings.servers, json.dumps(servers(task.settings, loopback)))

    def claude(
        self,
        assignment: wire.Assignment,
        task: OpenTask,
        start: Start,
        loopback: Loopback,
        before_tools: Callable[[], Awaitable[None]],
    ) -> Claude:
        """Return a Claude process that is not started yet. A tool runs only after `before_tools` has returned, and not
        if it raises."""
        return Claude(
            options(
                self.settings,
                assignment,
                task.settings,
                start,
                cli=self._cli,
                launcher=processes.launcher(),
                loopback=loopback,
                is_command=task.kind is not None,
                before_tools=before_tools,
            )
        )
