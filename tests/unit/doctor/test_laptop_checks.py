"""The checks of this machine's platform, and which platform `komputer doctor` examines."""

import fcntl
import json
from pathlib import Path

import pytest

from komputer.cli.doctor import _local
from komputer.doctor.laptop import CHECKS, Machine
from komputer.doctor.report import Check, Finding, Result, run
from komputer.domain.errors import Unavailable


async def found(data_dir: Path) -> dict[str, Finding]:
    reported: list[Finding] = []
    findings = await run(CHECKS, Machine(data_dir, "http://127.0.0.1:9"), reported.append)
    assert reported == findings
    assert all(finding.fix for finding in findings if finding.state in ("failed", "warning"))
    return {finding.check: finding for finding in findings}


@pytest.fixture(autouse=True)
def without_credential(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)


async def test_without_a_platform_the_fix_is_to_start_one(tmp_path: Path) -> None:
    findings = await found(tmp_path / "none")
    assert findings["data directory"].state == "failed"
    assert "komputer up" in findings["data directory"].fix
    assert findings["parts"].state == "skipped"


async def test_a_platform_that_does_not_run_or_does_not_answer_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "komputer.json").write_text(json.dumps({"format": 1, "token": "x", "ports": {}}))
    tmp_path.chmod(0o755)
    findings = await found(tmp_path)
    assert (findings["platform"].state, findings["platform"].fix) == ("failed", "komputer up")
    assert findings["data directory"].fix == f"chmod 700 {tmp_path}"
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        findings = await found(tmp_path)
    assert findings["platform"].state == "ok"
    assert "KOMPUTER_API" in findings["parts"].fix


@pytest.mark.parametrize("content", ["", "[]", "{", '{"format": "x"}', '{"format": 99}'])
async def test_settings_that_cannot_be_read_are_a_finding(tmp_path: Path, content: str) -> None:
    (tmp_path / "komputer.json").write_text(content)
    assert (await found(tmp_path))["data directory"].state == "failed"


async def test_a_check_that_cannot_find_out_fails_with_the_reason_and_the_others_run(tmp_path: Path) -> None:
    async def away(_: Path) -> Result:
        raise Unavailable("the server is away")

    async def unreadable(path: Path) -> Result:
        raise PermissionError(13, "Permission denied", str(path))

    findings = await run((Check("one", away), Check("two", unreadable)), tmp_path, lambda finding: None)
    assert [finding.to_wire() for finding in findings] == [
        {"check": "one", "state": "failed", "message": "the server is away"},
        {"check": "two", "state": "failed", "message": f"Permission denied: {tmp_path}"},
    ]


def test_the_platform_of_this_machine_is_meant_unless_a_cluster_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    data = tmp_path / "data"
    assert _local(None, data) == data, "nothing is there yet: a newcomer"
    (tmp_path / ".kube").mkdir()
    (tmp_path / ".kube" / "config").touch()
    assert _local(None, data) is None
    data.mkdir()
    (data / "komputer.json").touch()
    assert _local(None, data) == data
    assert _local(tmp_path / ".kube" / "config", data) is None
    assert _local(data / "kubeconfig", tmp_path) == data
