"""`komputer doctor` on a laptop: looks at the platform of this machine and says what to do where something is wrong."""

import fcntl
import json
import os
import resource
import shutil
import stat
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import httpx

from komputer import __version__
from komputer.domain.errors import KomputerError
from komputer.gateway import ModelCredential, always
from komputer.local import credential
from komputer.local.datadir import FORMAT
from komputer.local.kubelet.sandbox import why_no_sandbox
from komputer.serve import probe
from komputer.serve.doctor import Finding, failed, ok, skipped, warned

ANSWER_WITHIN_S: Final = 5.0
DISK_LEAST_BYTES, DISK_LOW_BYTES = 256 * 1024**2, 2 * 1024**3
"""Free space below which nothing works for long, and below which a few agents fill it: one takes 50 to 500 MB."""
INODES_LOW: Final = 50_000
"""A checkout with its dependencies has as many files."""
DESCRIPTORS_LEAST: Final = 4096
"""Each follower of events and each agent takes a few; 1024 are used up by some hundred."""
MEMORY_LOW_BYTES: Final = 1024**3
"""The platform takes some 500 MB, an agent at work up to 500 MB. Guesses, as the other limits here."""


class LaptopDoctor:
    """Of the platform whose data is in `data_dir`; its API is at `api`. Changes nothing."""

    def __init__(self, data_dir: Path, api: str) -> None:
        self._data_dir, self._api = data_dir, api
        self._settings: dict[str, Any] = {}
        self._is_running = False

    async def findings(self, told: Callable[[Finding], None]) -> list[Finding]:
        """Each as soon as it is known."""
        checks: list[tuple[str, Callable[[], Awaitable[Finding]]]] = [
            ("versions", self._versions),
            ("data directory", self._directory),
            ("platform", self._platform),
            ("parts", self._parts),
            ("model", self._model),
            ("sandbox", self._sandbox),
            ("disk", self._disk),
            ("memory", self._memory),
            ("descriptors", self._descriptors),
            ("kubectl", self._kubectl),
        ]
        found = []
        for name, check in checks:
            try:
                finding = await check()
            except KomputerError as error:
                finding = failed(name, error.message)
            except OSError as error:
                finding = failed(name, f"{error.strerror}: {error.filename or self._data_dir}")
            told(finding)
            found.append(finding)
        return found

    async def _versions(self) -> Finding:
        python = ".".join(map(str, sys.version_info[:3]))
        return ok("versions", f"komputer {__version__}, Python {python} on {sys.platform}")

    async def _directory(self) -> Finding:
        path, file = self._data_dir, self._data_dir / "komputer.json"
        if not file.exists():
            return failed(
                "data directory", f"no platform has run on {path}", "komputer up (--data-dir for another one)"
            )
        try:
            settings = json.loads(file.read_bytes())
            known = settings["format"] <= FORMAT
        except (ValueError, KeyError, TypeError):
            return failed("data directory", f"{file} is damaged", "komputer up: it says what it can do about it")
        if not known:
            said = f"{path} was written by a newer Komputer (format {settings['format']})"
            return failed("data directory", said, "install that version or newer")
        self._settings = settings
        if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            return failed("data directory", f"{path} is not writable", f"chown -R $(id -un) {path}")
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            return warned("data directory", f"others can read {path}", f"chmod 700 {path}")
        return ok("data directory", f"{path}, private")

    async def _platform(self) -> Finding:
        if not self._settings:
            return skipped("platform", "there is no data directory")
        # A platform holds the directory itself or the file, depending on what the file system can lock.
        for path in (self._data_dir, self._data_dir / "lock"):
            if _is_locked(path):
                self._is_running = True
                return ok("platform", "it runs")
        return failed("platform", f"no platform runs on {self._data_dir}", "komputer up")

    async def _parts(self) -> Finding:
        if not self._is_running:
            return skipped("parts", "the platform does not run")
        try:
            async with httpx.AsyncClient(timeout=ANSWER_WITHIN_S, trust_env=False) as http:
                answer = await http.get(f"{self._api}/readyz")
                said = answer.json()
        except (httpx.HTTPError, ValueError):
            do = "set KOMPUTER_API to the address that `komputer up` printed after `ready:`"
            return failed("parts", f"the API does not answer at {self._api}", do)
        if answer.status_code == 200:
            return ok("parts", f"all are ready, the API at {self._api}")
        why = said.get("error", f"HTTP {answer.status_code}") if isinstance(said, dict) else "no JSON"
        return failed("parts", str(why), f"see the last lines of the part's file in {self._data_dir / 'logs'}")

    async def _model(self) -> Finding:
        if access := credential.from_environment(os.environ):
            given = ModelCredential(kind=access.kind, value=access.value)
            found = await probe.model(access.base_url, None, always(given))
            if found["state"] == "ok":
                return ok("model", found["said"])
            do = "correct ANTHROPIC_API_KEY, ANTHROPIC_AUTH_TOKEN or ANTHROPIC_BASE_URL, and restart `komputer up`"
            return failed("model", found["said"], do)
        if not self._is_running:
            return skipped("model", "no credential in the environment: `komputer up` would use the offline model")
        if await self._offline_model_answers():
            return ok("model", "the offline model answers; start `komputer up` with ANTHROPIC_API_KEY for Claude")
        return skipped("model", "give the doctor the credential that `komputer up` has, to try it")

    async def _offline_model_answers(self) -> bool:
        """The socket exists with Claude too, but then nobody accepts on it."""
        try:
            async with httpx.AsyncClient(timeout=ANSWER_WITHIN_S, trust_env=False) as http:
                await http.get(f"http://127.0.0.1:{int(self._settings['ports']['model'])}/")
        except (httpx.HTTPError, KeyError, TypeError, ValueError):
            return False
        return True

    async def _sandbox(self) -> Finding:
        if missing := why_no_sandbox():
            do = "allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, or an AppArmor profile for bwrap)"
            return warned("sandbox", f"agents can read and change what you can: {missing}", do)
        return ok("sandbox", "bubblewrap contains agents")

    async def _disk(self) -> Finding:
        there = next(path for path in (self._data_dir, *self._data_dir.parents) if path.exists())
        free, inodes = shutil.disk_usage(there).free, os.statvfs(there)
        said = f"{free / 1024**3:.1f} GiB free for {self._data_dir}"
        do = "delete agents that you do not need (komputer delete), or move the data directory (--data-dir)"
        if free < DISK_LEAST_BYTES:
            return failed("disk", said, do)
        if free < DISK_LOW_BYTES:
            return warned("disk", said, do)
        if inodes.f_files and inodes.f_favail < INODES_LOW:
            return warned("disk", f"{inodes.f_favail} inodes free for {self._data_dir}", do)
        return ok("disk", said)

    async def _memory(self) -> Finding:
        try:
            lines = Path("/proc/meminfo").read_text().splitlines()
            available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
        except (OSError, StopIteration, ValueError):
            return skipped("memory", "this system does not tell how much is available")
        said = f"{available / 1024**3:.1f} GiB available"
        if available < MEMORY_LOW_BYTES:
            return warned("memory", said, "an agent at work takes up to 500 MB: close something, or run fewer at once")
        return ok("memory", said)

    async def _descriptors(self) -> Finding:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard != resource.RLIM_INFINITY and hard < DESCRIPTORS_LEAST:
            do = f"raise the limit before `komputer up`: ulimit -n {DESCRIPTORS_LEAST} (limits.conf, or LimitNOFILE=)"
            return warned("descriptors", f"a process may open {hard} files", do)
        return ok("descriptors", "unlimited" if hard == resource.RLIM_INFINITY else f"up to {hard} for each process")

    async def _kubectl(self) -> Finding:
        if shutil.which("kubectl") is None:
            return skipped("kubectl", "not installed; everything works, but you cannot look at the resources with it")
        return ok("kubectl", f"kubectl --kubeconfig {self._data_dir / 'kubeconfig'} get komputeragents")


def _is_locked(path: Path) -> bool:
    try:
        held = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # NFS locks no directories
        return False
    finally:
        os.close(held)
    return False
