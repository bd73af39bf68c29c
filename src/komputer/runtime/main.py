"""The runtime's process: settings, wiring, signals and exit codes."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from komputer.domain.errors import Invalid
from komputer.runtime import logs, processes, workspace
from komputer.runtime.changes import Changes
from komputer.runtime.claude import sdk
from komputer.runtime.claude.options import executable
from komputer.runtime.gateway_client import GatewayClient, PodDismissed
from komputer.runtime.ledger.file_format import Held
from komputer.runtime.ledger.store import LedgerStore
from komputer.runtime.settings import STOP_GRACE_S, RuntimeSettings, kept
from komputer.runtime.task.launcher import Launcher
from komputer.runtime.task.recorder import Recorder
from komputer.runtime.task.relay import Relay, Superseded
from komputer.runtime.task.worker import Worker

if TYPE_CHECKING:
    from komputer.runtime.proxy import Forwarder

log = logging.getLogger(__name__)

CATCH_UP_INTERVAL_S: Final = 2.0
"""Seconds between two checks of the ledger's file. It is written again if it is missing or incomplete."""
FLUSH_S: Final = 3.0
"""How long a runtime that stops waits for the log to accept its last events. The rest stays in the ledger."""


def main() -> int:
    """Run the runtime and return the exit code. 0: it was stopped by a signal, or the agent is deleted. 1: it cannot
    run; stderr has the reason."""
    try:
        settings = RuntimeSettings.from_environment(os.environ)
        logs.set_up(settings.log_level)
        temporary = prepare(settings)
    except (Invalid, OSError) as error:
        print_reason(str(error))
        return 1
    try:
        return asyncio.run(serve(settings, temporary))
    except (Held, FileNotFoundError, processes.StillRunning) as error:
        print_reason(str(error))
        return 1
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def print_reason(reason: str) -> None:
    """Write the reason of an exit to stderr, where `kubectl logs` shows it. Never blocks."""
    with contextlib.suppress(OSError):
        os.write(sys.stderr.fileno(), f"komputer.runtime: {reason}\n".encode("utf-8", "backslashreplace"))


def prepare(settings: RuntimeSettings) -> Path:
    """Prepare the workspace's folders, and reduce the process's environment to what the agent's commands may see.
    Return the folder for TMPDIR.

    If the workspace cannot be used, the runtime runs all the same: it ends each task with that reason."""
    try:
        workspace.prepare(settings)
    except OSError as error:
        log.error("workspace cannot be used", extra={"error": str(error)})
    temporary = Path(tempfile.gettempdir()) / settings.temporary_name
    try:
        workspace.make_temporary(temporary)
    except OSError:
        temporary = Path(tempfile.mkdtemp(prefix="komputer-"))
    environment = kept(os.environ)
    os.environ.clear()
    os.environ.update(environment, HOME=str(settings.home), TMPDIR=str(temporary))
    return temporary


async def serve(settings: RuntimeSettings, temporary: Path) -> int:
    """Run the agent until SIGTERM, SIGINT or its deletion."""
    loop = asyncio.get_running_loop()
    changes = Changes()
    cli = executable()
    processes.close_memory()
    processes.adopt_orphans()
    store = LedgerStore(settings.ledger, changes.notify)
    if store.was_unreadable:
        log.error("ledger not readable, set aside", extra={"path": str(settings.ledger)})
    gateway = GatewayClient(settings.gateway_url, settings.token_file)
    relay = Relay(store, gateway, changes)
    forwarding = loop.create_task(_forwarder(gateway))
    launcher = Launcher(settings, cli, temporary, forwarding)
    worker = Worker(store, relay, changes, launcher, Recorder(store, gateway.token))
    relaying, working = loop.create_task(relay.run()), loop.create_task(worker.run())
    catching_up = loop.create_task(_catch_up(store))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.stop)
    try:
        await asyncio.wait({relaying, working}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            return await _dismissed(relaying, worker, working)
        working.result()
        await changes.until(lambda: relay.is_quiet or relaying.done(), timeout_s=FLUSH_S)
        return 0
    finally:
        relaying.cancel()
        working.cancel()
        catching_up.cancel()
        with contextlib.suppress(TimeoutError, processes.StillRunning):
            async with asyncio.timeout(STOP_GRACE_S):
                await asyncio.gather(relaying, working, catching_up, return_exceptions=True)
                await processes.sweep()
                with contextlib.suppress(asyncio.CancelledError):
                    await (await forwarding).close()
        await gateway.close()
        store.close()


async def _catch_up(store: LedgerStore) -> None:
    """Write the ledger again when the disk accepts it, or if its file was removed. Runs until cancelled."""
    while True:
        await asyncio.sleep(CATCH_UP_INTERVAL_S)
        store.catch_up()


async def _dismissed(relaying: asyncio.Task[None], worker: Worker, working: asyncio.Task[None]) -> int:
    """Return the exit code after the gateway has dismissed this runtime. An open task stays in the ledger, for a newer
    pod."""
    try:
        relaying.result()
    except PodDismissed:
        log.info("agent is deleted")
        return 0
    except Superseded as error:
        log.warning("agent has another pod", extra={"error": error.message})
        worker.stop()
        await working
    return 1


async def _forwarder(gateway: GatewayClient) -> Forwarder:
    """Import slow modules while the runtime says hello, then open Claude's loopback address."""

    def load() -> None:
        importlib.import_module("komputer.runtime.proxy")
        sdk.load()

    await asyncio.to_thread(load)
    from komputer.runtime.proxy import Forwarder

    forwarder = Forwarder(gateway)
    await forwarder.start()
    return forwarder
