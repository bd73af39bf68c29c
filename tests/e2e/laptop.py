"""A platform as a newcomer starts it: `komputer up` in a process of its own, looked at from outside."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil
import yaml

READY_WITHIN_S = 60.0
TASK_WITHIN_S = 60.0
END_TYPES = {"task_completed", "task_cancelled", "error"}
T = TypeVar("T")
Json = dict[str, Any]


def until(look: Callable[[], T | None], what: str, within_s: float = TASK_WITHIN_S) -> T:
    """What `look` finds, as soon as it finds something. Raises `TimeoutError` with the last look."""
    deadline = time.monotonic() + within_s
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {within_s:.0f} s; last look: {found!r}")
        time.sleep(0.02)


def script(*steps: Json, text: str = "Play this.") -> str:
    """Instructions that the offline model plays."""
    return f"{text}\n\n```offline\n{json.dumps(steps)}\n```"


class Laptop:
    """`komputer up` on a data directory; may be stopped, killed and started again."""

    def __init__(self, data_dir: Path, *options: str, environment: dict[str, str] | None = None) -> None:
        self.data_dir = data_dir
        self.options = options
        self.environment = environment or {}
        self.process: subprocess.Popen[str] | None = None
        self.output: list[str] = []
        self.http: httpx.Client

    def start(self) -> "Laptop":
        command = [sys.executable, "-m", "komputer.cli", "up", "--port", "0", "--data-dir", str(self.data_dir)]
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("ANTHROPIC_", "KOMPUTER_"))}
        self.output = []
        self.process = subprocess.Popen(
            [*command, *self.options],
            env={**clean, **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdout is not None
        deadline = time.monotonic() + READY_WITHIN_S
        for line in self.process.stdout:
            self.output.append(line.rstrip("\n"))
            if line.startswith("try it:"):
                break
            if time.monotonic() > deadline:
                break
        ready = [line for line in self.output if line.startswith("ready: ")]
        if len(ready) != 1:
            self.kill()
            raise AssertionError("\n".join(["the platform did not get ready:", *self.output, self.logs()]))
        self.http = httpx.Client(base_url=ready[0].removeprefix("ready: ") + "/api/v1", timeout=30, trust_env=False)
        return self

    @property
    def url(self) -> str:
        return str(self.http.base_url).removesuffix("/api/v1/")

    def logs(self) -> str:
        files = sorted((self.data_dir / "logs").rglob("*.log")) if (self.data_dir / "logs").exists() else []
        return "\n".join(f"--- {file.name}\n{file.read_text(errors='replace')[-3000:]}" for file in files)

    # ---- ends -------------------------------------------------------------------------------------------------
    def stop(self, number: int = signal.SIGTERM) -> int:
        """As Ctrl-C does; the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(timeout=40)
        self._close()
        return code

    def kill(self) -> None:
        """kill -9 of the platform's first process; the rest is its own business."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(timeout=10)
        self._close()

    def _close(self) -> None:
        self.http.close()
        if self.process and self.process.stdout:
            self.process.stdout.close()

    def part(self, name: str) -> psutil.Process:
        """A part's process, found by the log file that it writes to."""
        assert self.process is not None
        log = str(self.data_dir / "logs" / f"{name}.log")
        for child in psutil.Process(self.process.pid).children():
            if any(os.path.realpath(f"/proc/{child.pid}/fd/{fd}") == log for fd in os.listdir(f"/proc/{child.pid}/fd")):
                return child
        raise LookupError(name)

    def address(self, part: str) -> str:
        """Where `kubernetes`, `gateway` or `model` listens."""
        return f"http://127.0.0.1:{json.loads((self.data_dir / 'komputer.json').read_text())['ports'][part]}"

    def agent_processes(self, program: str) -> list[psutil.Process]:
        """Processes below the kubelet whose command line has `program` in it."""
        found = []
        for process in self.part("kubelet").children(recursive=True):
            try:
                if program in " ".join(process.cmdline()) and "bwrap" not in process.name():
                    found.append(process)
            except psutil.NoSuchProcess:
                continue
        return found

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

    def kubernetes_url(self) -> str:
        kubeconfig = yaml.safe_load((self.data_dir / "kubeconfig").read_text())
        return str(kubeconfig["clusters"][0]["cluster"]["server"])

    def kubernetes(self, method: str, path: str, body: Json | None = None, status: int = 200) -> Json | None:
        """What the Kubernetes API answers with this status; None for another."""
        kubeconfig = yaml.safe_load((self.data_dir / "kubeconfig").read_text())
        token = kubeconfig["users"][0]["user"]["token"]
        answer = httpx.request(
            method,
            self.kubernetes_url() + path,
            json=body,
            headers={"Authorization": f"Bearer {token}"},
            trust_env=False,
        )
        return dict(answer.json()) if answer.status_code == status else None


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
