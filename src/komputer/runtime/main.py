"""The runtime's process: settings from the pod, parts wired together, signals, exit codes."""

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
from komputer.runtime.ledger.store import Held, LedgerStore
from komputer.runtime.settings import STOP_GRACE_S, RuntimeSettings, kept
from komputer.runtime.task.relay import Relay, Superseded
from komputer.runtime.task.worker import Worker

if TYPE_CHECKING:
    from komputer.runtime.proxy import Forwarder

log = logging.getLogger(__name__)

CATCH_UP_S: Final = 2.0
"""How often is looked whether the ledger stands in its place, and written where it does not."""
LAST_WORDS_S: Final = 3.0
"""How long a runtime that leaves waits for the log to take what the interrupted task still said. The rest stays in the
ledger."""


def main() -> int:
    """Exit code 0: told to stop, or the agent is deleted. 1: cannot run here; the reason is among the last lines."""
    try:
        settings = RuntimeSettings.from_environment(os.environ)
        logs.set_up(settings.log_level)
        temporary = prepare(settings)
    except (Invalid, OSError) as error:
        last_words(str(error))
        return 1
    try:
        return asyncio.run(serve(settings, temporary))
    except (Held, FileNotFoundError, processes.StillRunning) as error:
        last_words(str(error))
        return 1
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def last_words(reason: str) -> None:
    """Why the runtime leaves, on stderr; `kubectl logs` shows it. A pipe that nobody reads does not hold us."""
    with contextlib.suppress(OSError):
        os.write(sys.stderr.fileno(), f"komputer.runtime: {reason}\n".encode("utf-8", "backslashreplace"))


def prepare(settings: RuntimeSettings) -> Path:
    """Folders of the workspace, and an environment that the agent's commands may see. The answer is TMPDIR.

    A workspace that cannot be used is no reason to leave: each task is then ended with that reason."""
    try:
        workspace.prepare(settings)
    except OSError as error:
        log.error("the workspace cannot be used", extra={"error": str(error)})
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
    store = LedgerStore(settings.ledger, changes.ring)
    if store.was_unreadable:
        log.error("the ledger could not be read and was set aside", extra={"path": str(settings.ledger)})
    gateway = GatewayClient(settings.gateway_url, settings.token_file)
    relay = Relay(store, gateway, changes)
    forwarding = loop.create_task(_forwarder(gateway))
    worker = Worker(settings, store, relay, changes, forwarding, cli, temporary, gateway.token)
    relaying, working = loop.create_task(relay.run()), loop.create_task(worker.run())
    catching_up = loop.create_task(_catch_up(store))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.stop)
    try:
        await asyncio.wait({relaying, working}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            return await _let_go(relaying, worker, working)
        working.result()
        await changes.until(lambda: relay.is_quiet or relaying.done(), timeout_s=LAST_WORDS_S)
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
    """Write the ledger as soon as the disk takes it again, and anew where its file was removed."""
    while True:
        await asyncio.sleep(CATCH_UP_S)
        store.catch_up()


async def _let_go(relaying: asyncio.Task[None], worker: Worker, working: asyncio.Task[None]) -> int:
    """The gateway has dismissed this runtime. A task that a newer pod may go on with is kept for it."""
    try:
        relaying.result()
    except PodDismissed:
        log.info("the agent is deleted")
        return 0
    except Superseded as error:
        log.warning("another pod is the agent's", extra={"error": error.message})
        worker.stop()
        await working
    return 1


async def _forwarder(gateway: GatewayClient) -> Forwarder:
    """Import what is slow to import beside the hello, then open the model's loopback address."""

    def load() -> None:
        importlib.import_module("komputer.runtime.proxy")
        sdk.load()

    await asyncio.to_thread(load)
    from komputer.runtime.proxy import Forwarder

    forwarder = Forwarder(gateway)
    await forwarder.start()
    return forwarder
