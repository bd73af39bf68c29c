"""Every kubectl of this machine, run like a user does: with one kubeconfig and its own home."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.contract.kubernetes.cluster import JSON


def versions() -> list[Path]:
    """Return `kubectl` in the PATH and its versioned siblings (`kubectl.1.33`), as some distributions install them."""
    found = shutil.which("kubectl")
    if not found:
        return []
    folder = Path(found).resolve().parent
    return [Path(found), *sorted(folder.glob("kubectl.1.*"))]


def extremes() -> list[Path]:
    """Return the oldest and the newest of `versions`."""
    siblings = versions()[1:]
    return [siblings[0], siblings[-1]] if siblings else versions()


@dataclass(frozen=True, kw_only=True)
class Kubectl:
    """One kubectl and one namespace. Calling it runs a command that must succeed, and returns its output."""

    program: Path
    kubeconfig: Path
    home: Path
    namespace: str

    def run(
        self, *arguments: str, stdin: JSON | None = None, timeout: float = 60
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [self.program, "--namespace", self.namespace, *arguments],
            input=None if stdin is None else yaml.safe_dump(stdin),
            stdin=subprocess.DEVNULL if stdin is None else None,
            env={"PATH": os.environ["PATH"], "HOME": str(self.home), "KUBECONFIG": str(self.kubeconfig)},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def __call__(self, *arguments: str, stdin: JSON | None = None) -> str:
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)} → {done.returncode}: {done.stderr}{done.stdout}"
        return done.stdout

    def fails(self, *arguments: str, stdin: JSON | None = None) -> str:
        """Run a command that must fail, and return its stderr."""
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode != 0, f"kubectl {' '.join(arguments)} succeeded: {done.stdout}"
        return done.stderr
