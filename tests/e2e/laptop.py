"""A platform as a newcomer starts it: `komputer up` in a process of its own, looked at from outside."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest
import yaml

from tests.e2e.platform import Json, Platform, files_below
from tests.openapi import checked_sync

READY_WITHIN_S = 180.0
"""Generous: the machine may be busy with other tests."""


class Laptop(Platform):
    """`komputer up` on a data directory; may be stopped, killed and started again."""

    def __init__(self, data_dir: Path, *options: str, environment: dict[str, str] | None = None) -> None:
        self.data_dir = data_dir
        self.options = options
        self.environment = environment or {}
        self.process: subprocess.Popen[str] | None = None
        self.output: list[str] = []

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
        self.http = httpx.Client(
            base_url=ready[0].removeprefix("ready: ") + "/api/v1",
            timeout=30,
            trust_env=False,
            event_hooks={"response": [checked_sync]},
        )
        return self

    def logs(self) -> str:
        files = sorted((self.data_dir / "logs").rglob("*.log")) if (self.data_dir / "logs").exists() else []
        return "\n".join(f"--- {file.name}\n{file.read_text(errors='replace')[-3000:]}" for file in files)

    # ---- ends -------------------------------------------------------------------------------------------------
    def stop(self, number: int = signal.SIGTERM) -> int:
        """As Ctrl-C does; the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(timeout=180)
        self._close()
        return code

    def kill(self) -> None:
        """kill -9 of the platform's first process; the rest is its own business."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(timeout=10)
        self._close()

    def _close(self) -> None:
        if hasattr(self, "http"):  # it was ready once
            self.http.close()
        if self.process and self.process.stdout:
            self.process.stdout.close()

    def part(self, name: str) -> psutil.Process:
        """A part's process, found by the log file that it writes to."""
        assert self.process is not None
        log = str(self.data_dir / "logs" / f"{name}.log")
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(FileNotFoundError):  # it has just ended
                if any(os.path.realpath(file) == log for file in Path(f"/proc/{child.pid}/fd").iterdir()):
                    return child
        raise LookupError(name)

    def address(self, part: str) -> str:
        """Where `kubernetes`, `gateway` or `model` listens."""
        return f"http://127.0.0.1:{json.loads((self.data_dir / 'komputer.json').read_text())['ports'][part]}"

    def kill_part(self, part: str, number: int = signal.SIGKILL) -> None:
        victim = self.part(part)
        if part == "valkey":
            (victim,) = [child for child in victim.children() if "valkey" in child.name()]
        victim.send_signal(number)

    def kubectl(self, *arguments: str, given: str | None = None) -> str:
        program = shutil.which("kubectl")
        if program is None:
            pytest.skip("kubectl is not installed")
        command = [program, "--kubeconfig", str(self.data_dir / "kubeconfig"), *arguments]
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def pod_processes(self) -> list[psutil.Process]:
        return self.part("kubelet").children(recursive=True)

    def workspace(self, agent: str) -> Path | None:
        return next((each for each in (self.data_dir / "volumes").glob(f"*{agent}-pvc*") if each.is_dir()), None)

    def traces(self) -> str:
        return "\n".join(content.decode("latin-1") for _, content in files_below(self.data_dir))

    def kubernetes_url(self) -> str:
        kubeconfig = yaml.safe_load((self.data_dir / "kubeconfig").read_text())
        return str(kubeconfig["clusters"][0]["cluster"]["server"])

    def kubeconfig_token(self) -> str:
        return str(yaml.safe_load((self.data_dir / "kubeconfig").read_text())["users"][0]["user"]["token"])

    def kubernetes(self, method: str, path: str, body: Json | None = None, status: int = 200) -> Json | None:
        """What the Kubernetes API answers with this status; None for another."""
        token = self.kubeconfig_token()
        answer = httpx.request(
            method,
            self.kubernetes_url() + path,
            json=body,
            headers={"Authorization": f"Bearer {token}"},
            trust_env=False,
        )
        return dict(answer.json()) if answer.status_code == status else None
