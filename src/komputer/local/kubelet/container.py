"""One run of one container: its processes from start to end."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from komputer.background import retry
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

OUTPUT_DRAIN_S = 2.0
"""How long output is still read after the container has ended. A process that was not killed may keep the pipe open."""
MAX_SWEEPS = 20
"""How many times, at intervals of 50 ms, the remaining processes of a container are killed. Each round kills processes
that were forked since the round before."""


@dataclass(frozen=True)
class Command:
    """The command of a container and its surroundings, with paths as the container sees them."""

    entrypoint: list[str]
    """The image's command on this machine. Empty if the container's spec has a command of its own."""
    argv: list[str]
    environment: Mapping[str, str]
    working_dir: str | None
    mounts: list[Mount]
    pod_uid: str
    own_folder: Path
    """`<pod>/containers/<name>`: HOME, TMPDIR and working directory of a process without a sandbox."""
    etc: Path
    """The folder that a sandboxed process sees as /etc."""

    @property
    def pod_folder(self) -> Path:
        return self.own_folder.parents[1]


class Run:
    """A started container. `exit` returns when all of its processes have ended."""

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
            retry(f"output of a container of pod {command.pod_uid}", self._copy_output)
        )
        self.started = datetime.now(UTC)

    @classmethod
    async def start(cls, command: Command, sandbox: Sandbox, log: ContainerLogFile) -> "Run":
        """Start the container. Raises `OSError` if the program cannot be started. `log` is closed when the container
        has ended."""
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
            preexec_fn=_before_exec,
        )
        return cls(process, command, sandbox, None, log)

    @classmethod
    async def _in_bubblewrap(cls, command: Command, log: ContainerLogFile) -> "Run":
        """Start the container in a sandbox. bubblewrap writes the pid of the sandbox's init to `--info-fd`."""
        read_end, write_end = os.pipe()
        try:
            line = bubblewrap_command(
                [*command.entrypoint, *command.argv],
                command.mounts,
                working_dir=command.working_dir or "/tmp",
                info_fd=write_end,
                program=bubblewrap() or "bwrap",
                etc=command.etc,
            )
            environment = container_environment(command.environment, "/tmp", "/tmp")
            environment[processes.MARK] = str(command.pod_folder)  # on bubblewrap only: it unsets it for the command
            process = await asyncio.create_subprocess_exec(
                *line,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                pass_fds=(write_end,),
                start_new_session=True,
                preexec_fn=_before_exec,
            )
        finally:
            os.close(write_end)
        # The read ends when bubblewrap has closed its end: after it has written the information, or has failed.
        with os.fdopen(read_end, "rb") as pipe:
            info = await asyncio.to_thread(pipe.read)
        init = json.loads(info)["child-pid"] if info.strip() else None
        return cls(process, command, Sandbox.BUBBLEWRAP, init, log)

    async def _copy_output(self) -> None:
        """Append the container's output to its log."""
        assert self._process.stdout is not None
        while data := await self._process.stdout.read(65536):
            self._log.write(data)

    def main_pid(self) -> int | None:
        """Return the pid of the container's main process in the host's PID namespace; None once it has ended."""
        if self._sandbox is Sandbox.NONE:
            return self._process.pid
        return next(iter(processes.children(self._init)), None) if self._init else None

    async def exit(self) -> Exit:
        """Wait for the main process, kill the processes that it left behind, and return how it ended."""
        code = await self._process.wait()
        await self._end()
        number = -code if code < 0 else code - 128 if 128 < code < 160 else None
        return Exit(128 - code if code < 0 else code, number, self.started, datetime.now(UTC))

    async def _end(self) -> None:
        """Kill the processes left behind, and read the last output."""
        await self._sweep()
        _, reading = await asyncio.wait({self._pumping}, timeout=OUTPUT_DRAIN_S)
        if reading:
            self._pumping.cancel()
            await asyncio.wait({self._pumping})
        self._log.close()

    async def _sweep(self) -> None:
        """Kill every process with the pod's mark, if there is no sandbox. With one, the kernel kills all processes of
        the PID namespace together with its init."""
        for _ in range(MAX_SWEEPS if self._sandbox is Sandbox.NONE else 0):
            left = processes.marked(self._command.pod_folder)
            if not left:
                return
            processes.kill(left)
            await asyncio.sleep(0.05)

    async def stop(self, grace: timedelta) -> None:
        """Send SIGTERM to the main process and, after `grace`, SIGKILL to the tree. Return when all of it has ended."""
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


def _before_exec() -> None:
    """Prepare the child process before exec. Without a sandbox, only the parent-death signal ends it together with the
    kubelet."""
    processes.end_with_parent()
    processes.be_first_oom_victim()
