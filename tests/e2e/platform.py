"""A platform under test, wherever it runs: what a client asks of it, and what a test does to its parts."""

import contextlib
import json
import os
import re
import stat
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil

TASK_WITHIN_S = 60.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.02, 0.2
"""Between two looks. A look is a request to the platform under test, and takes processor time from what the test waits
for."""
END_TYPES = {"task_completed", "task_cancelled", "error"}
T = TypeVar("T")
Json = dict[str, Any]


def until(look: Callable[[], T | None], what: str, within_s: float = TASK_WITHIN_S) -> T:
    """What `look` finds, as soon as it finds something. Raises `TimeoutError` with the last look."""
    deadline = time.monotonic() + within_s
    pause_s = FIRST_PAUSE_S
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {within_s:.0f} s; last look: {found!r}")
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, LONGEST_PAUSE_S)


def files_below(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Every file and what is in it, links left out. Agents work on meanwhile: what vanishes is left out too."""
    for parent, _, names in os.walk(folder):
        for path in (Path(parent, name) for name in names):
            with contextlib.suppress(FileNotFoundError):
                if stat.S_ISREG(path.lstat().st_mode):
                    yield path, path.read_bytes()


def script(*steps: Json, text: str = "Play this.") -> str:
    """Instructions that the offline model plays."""
    return f"{text}\n\n```offline\n{json.dumps(steps)}\n```"


class Platform(ABC):
    """`http` speaks to its API as somebody who may do everything. `ip` is where a test's own servers listen, so that
    the platform reaches them."""

    ip = "127.0.0.1"
    http: httpx.Client
    token: str | None = None

    @property
    def url(self) -> str:
        return str(self.http.base_url).removesuffix("/api/v1/")

    # ---- where it runs ----------------------------------------------------------------------------------------
    @abstractmethod
    def kill_part(self, part: str, number: int = 9) -> None:
        """A signal to every process of `api`, `gateway`, `operator`, `valkey` or `kubernetes`; it is started again."""

    @abstractmethod
    def kill(self) -> None:
        """kill -9 of the whole platform; agents go on where they have a node of their own."""

    @abstractmethod
    def start(self) -> Any:
        """As it comes back after `kill`."""

    @abstractmethod
    def kubectl(self, *arguments: str, given: str | None = None) -> str:
        """What it prints. Raises `AssertionError` with what it says where it fails."""

    @abstractmethod
    def pod_processes(self) -> list[psutil.Process]:
        """All processes in pods of agents."""

    @abstractmethod
    def workspace(self, agent: str) -> Path | None:
        """An agent's disk; None where there is none."""

    @abstractmethod
    def logs(self) -> str:
        """What its parts have said lately."""

    @abstractmethod
    def traces(self) -> str:
        """Everything that it has written down where no secret may stand."""

    @abstractmethod
    def kubernetes_url(self) -> str: ...

    @abstractmethod
    def kubernetes(self, method: str, path: str, body: Json | None = None, status: int = 200) -> Json | None:
        """What the Kubernetes API answers to its admin with this status; None for another."""

    def agent_processes(self, program: str, agent: str | None = None) -> list[psutil.Process]:
        """Processes in pods (of one agent) whose command line has `program` in it; not the sandbox around them."""
        found = []
        for process in self.pod_processes():
            with contextlib.suppress(psutil.Error):  # it has just ended
                command = process.cmdline()
                is_meant = program in " ".join(command) and "bwrap" not in command[0]
                if is_meant and (agent is None or _is_of(process, agent)):
                    found.append(process)
        return found

    def claude(self, agent: str) -> psutil.Process:
        """The agent's one. Between fork and exec a child of it looks the same, and is younger."""
        return min(self.agent_processes("_bundled/claude", agent), key=psutil.Process.create_time)

    def kill_runtime(self, agent: str) -> None:
        for process in self.agent_processes("komputer.runtime", agent):
            with contextlib.suppress(psutil.NoSuchProcess):  # its parent took it along
                process.kill()

    def stop_runtime(self, agent: str) -> None:
        """It stays as it is, like one that hangs."""
        for process in self.agent_processes("komputer.runtime", agent):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()

    @property
    def cli_environment(self) -> dict[str, str]:
        return {**os.environ, "KOMPUTER_API": self.url} | ({"KOMPUTER_TOKEN": self.token} if self.token else {})

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The command line, as a person uses it."""
        return subprocess.run(
            [sys.executable, "-m", "komputer.cli", *arguments],
            env=self.cli_environment,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    # ---- REST -------------------------------------------------------------------------------------------------
    def post(self, name: str, instructions: str, **fields: Any) -> httpx.Response:
        return self.http.post("/agents", json={"name": name, "instructions": instructions, **fields})

    def assign(self, name: str, instructions: str, **fields: Any) -> Json:
        answer = self.post(name, instructions, **fields)
        assert answer.status_code in (200, 201), answer.text
        return dict(answer.json())

    def agent(self, name: str, namespace: str | None = None) -> Json:
        answer = self.http.get(f"/agents/{name}", params={"namespace": namespace} if namespace else None)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def events(self, name: str, namespace: str | None = None) -> list[Json]:
        """All of them, page by page."""
        found: list[Json] = []
        while True:
            query = {"limit": 200, "after": found[-1]["id"] if found else "0-0"}
            answer = self.http.get(
                f"/agents/{name}/events", params=query | ({"namespace": namespace} if namespace else {})
            )
            if answer.status_code == 503:  # the log is away for a moment
                return found
            assert answer.status_code == 200, answer.text
            page = answer.json()["events"]
            found += page
            if len(page) < 200:
                return found

    def event(self, name: str, kind: str, nth: int = 1, within_s: float = TASK_WITHIN_S) -> Json:
        """The nth event of a kind, waited for."""

        def look() -> Json | None:
            some = [event for event in self.events(name) if event["type"] == kind]
            return some[nth - 1] if len(some) >= nth else None

        try:
            return until(look, f"{kind} #{nth} of {name}", within_s)
        except TimeoutError as late:
            seen = [(e["type"], str(e["payload"])[:200]) for e in self.events(name)]
            raise AssertionError(f"{late}\nevents: {seen}\nagent: {self.agent(name)}\n{self.logs()}") from late

    def end(self, name: str, nth: int = 1, within_s: float = TASK_WITHIN_S) -> Json:
        """The nth end of a task, of whichever kind, waited for."""

        def look() -> Json | None:
            ends = [event for event in self.events(name) if event["type"] in END_TYPES]
            return ends[nth - 1] if len(ends) >= nth else None

        try:
            return until(look, f"end #{nth} of {name}", within_s)
        except TimeoutError as late:
            seen = [(e["type"], str(e["payload"])[:200]) for e in self.events(name)]
            raise AssertionError(f"{late}\nevents: {seen}\nagent: {self.agent(name)}\n{self.logs()}") from late

    def settled(self, name: str, **fields: Any) -> Json:
        """The agent when its fields are so."""

        def look() -> Json | None:
            agent = self.agent(name)
            return agent if all(agent.get(key) == value for key, value in fields.items()) else None

        return until(look, f"{name} {fields}")

    def manifest(self, name: str, namespace: str = "default") -> Json:
        """The resource itself, from the Kubernetes API."""
        path = f"/apis/komputer.komputer.ai/v1alpha1/namespaces/{namespace}/komputeragents/{name}"
        found = self.kubernetes("GET", path)
        assert found is not None
        return found


def _is_of(process: psutil.Process, agent: str) -> bool:
    """Whether the process belongs to that agent's pod: the environment of its container says so."""
    return process.environ().get("KOMPUTER_AGENT") == agent or any(
        parent.environ().get("KOMPUTER_AGENT") == agent for parent in process.parents()
    )


def check_log(events: list[Json]) -> None:
    """What holds for every agent's log at any time: order, one start and one end of each task, nothing after an end."""
    stamps = [event["timestamp"] for event in events]
    assert stamps == sorted(set(stamps)), "timestamps increase strictly"
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", stamp) for stamp in stamps)
    ended: set[str] = set()
    started: set[str] = set()
    for event in events:
        task = event["payload"]["task_id"]
        assert task not in ended, f"{event['type']} after the end of {task}"
        if event["type"] == "task_started":
            assert task not in started, f"{task} started twice"
            started.add(task)
        if event["type"] in END_TYPES:
            ended.add(task)
