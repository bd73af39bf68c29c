"""One run of one container: its processes from the first to the last."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from komputer.background import retried
from komputer.local.kubelet import processes
from komputer.local.kubelet.logs import ContainerLogFile
from komputer.local.kubelet.sandbox import (
    Mount,
    Sandbox,
    bubblewrap,
    bubblewrap_command,
    container_environment,
    rewritten,
)
from komputer.local.kubelet.status import Exit

LAST_OUTPUT_S = 2.0
"""How long the output of a container that has ended is read on: a process that has left it may hold the pipe open."""
SWEEPS = 20
"""How often, 50 ms apart, what is left of a container is killed before we give up; each round catches its new forks."""


@dataclass(frozen=True)
class Command:
    """What to run, as the container would say it."""

    entrypoint: list[str]
    """The image's: what it stands for on this machine. Empty where the pod has a command of its own."""
    argv: list[str]
    environment: Mapping[str, str]
    working_dir: str | None
    mounts: list[Mount]
    pod_uid: str
    own_folder: Path
    """`<pod>/containers/<name>`, for HOME, TMPDIR and the working directory of a process without a sandbox."""
    etc: Path
    """What a process in a sandbox sees as /etc."""

    @property
    def pod_folder(self) -> Path:
        return self.own_folder.parents[1]


class Run:
    """A started container. `exit` is there when all of its processes are gone."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        command: Command,
        sandbox: Sandbox,
        init: int | None,
        log: ContainerLogFile,
    ) -> None:
        self._process = process
        self._command = command
        self._sandbox = sandbox
        self._init = init
        self._log = log
        self._pumping = asyncio.get_running_loop().create_task(
            retried(f"output of a container of pod {command.pod_uid}", self._copy_output)
        )
        self.started = datetime.now(UTC)

    @classmethod
    async def start(cls, command: Command, sandbox: Sandbox, log: ContainerLogFile) -> "Run":
        """Raises `OSError` where the program cannot be started. `log` is closed when the container has ended."""
        if sandbox is Sandbox.BUBBLEWRAP:
            return await cls._in_bubblewrap(command, log)
        home, temporary = command.own_folder / "home", command.own_folder / "tmp"
        for folder in (home, temporary):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        declared = {key: rewritten(value, command.mounts) for key, value in command.environment.items()}
        environment = container_environment(declared, str(home), str(temporary))
        environment[processes.MARK] = str(command.pod_folder)
        process = await asyncio.create_subprocess_exec(
            *command.entrypoint,
            *(rewritten(part, command.mounts) for part in command.argv),
            env=environment,
            cwd=rewritten(command.working_dir, command.mounts) if command.working_dir else home,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_before_the_program,
        )
        return cls(process, command, sandbox, None, log)

    @classmethod
    async def _in_bubblewrap(cls, command: Command, log: ContainerLogFile) -> "Run":
        told, tell = os.pipe()
        try:
            line = bubblewrap_command(
                [*command.entrypoint, *command.argv],
                command.mounts,
                working_dir=command.working_dir or "/tmp",
                info_fd=tell,
                program=bubblewrap() or "bwrap",
                etc=command.etc,
            )
            process = await asyncio.create_subprocess_exec(
                *line,
                env=container_environment(command.environment, "/tmp", "/tmp"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                pass_fds=(tell,),
                start_new_session=True,
                preexec_fn=processes.end_first_without_memory,
            )
        finally:
            os.close(tell)
        with os.fdopen(told, "rb") as pipe:
            info = await asyncio.to_thread(pipe.read)
        init = json.loads(info)["child-pid"] if info.strip() else None
        return cls(process, command, Sandbox.BUBBLEWRAP, init, log)

    async def _copy_output(self) -> None:
        assert self._process.stdout is not None
        while data := await self._process.stdout.read(65536):
            self._log.write(data)

    def main_pid(self) -> int | None:
        """The container's own first process, in the host's numbers."""
        if self._sandbox is Sandbox.NONE:
            return self._process.pid
        return next(iter(processes.children(self._init)), None) if self._init else None

    async def exit(self) -> Exit:
        """Waits for the main process, ends what it left behind, and tells how it ended."""
        code = await self._process.wait()
        await self._end()
        number = -code if code < 0 else code - 128 if 128 < code < 160 else None
        return Exit(128 - code if code < 0 else code, number, self.started, datetime.now(UTC))

    async def _end(self) -> None:
        """After the main process: what it left behind ends, and its last output is kept."""
        await self._sweep()
        _, reading = await asyncio.wait({self._pumping}, timeout=LAST_OUTPUT_S)
        if reading:
            self._pumping.cancel()
            await asyncio.wait({self._pumping})
        self._log.close()

    async def _sweep(self) -> None:
        """Without a PID namespace the kernel does not end the tree with its root; what carries our mark is killed."""
        for _ in range(SWEEPS if self._sandbox is Sandbox.NONE else 0):
            left = processes.marked(self._command.pod_folder)
            if not left:
                return
            processes.kill(left)
            await asyncio.sleep(0.05)

    async def stop(self, grace: timedelta) -> None:
        """SIGTERM to the main process, SIGKILL to the tree after `grace`; returns when the root is gone."""
        pid = self.main_pid()
        processes.kill([pid] if pid else [], signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace.total_seconds()):
                await self._process.wait()
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        await self._end()


def _before_the_program() -> None:
    """In the new process. Without a sandbox nothing else ends it with us."""
    processes.end_with_parent()
    processes.end_first_without_memory()
