"""What the doctor says about this machine's platform, and which platform it looks at."""

import fcntl
import json
from pathlib import Path

import pytest

from komputer.cli.doctor import _local
from komputer.local.doctor import LaptopDoctor
from komputer.serve.doctor import Finding


async def found(data_dir: Path) -> dict[str, Finding]:
    told: list[Finding] = []
    findings = await LaptopDoctor(data_dir, "http://127.0.0.1:9").findings(told.append)
    assert told == findings
    assert all(finding.do for finding in findings if finding.state in ("failed", "warning"))
    return {finding.check: finding for finding in findings}


@pytest.fixture(autouse=True)
def without_credential(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)


async def test_a_machine_without_a_platform_is_told_how_to_start_one(tmp_path: Path) -> None:
    findings = await found(tmp_path / "none")
    assert findings["data directory"].state == "failed"
    assert "komputer up" in findings["data directory"].do
    assert findings["parts"].state == "skipped"


async def test_a_platform_that_does_not_run_or_does_not_answer_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "komputer.json").write_text(json.dumps({"format": 1, "token": "x", "ports": {}}))
    tmp_path.chmod(0o755)
    findings = await found(tmp_path)
    assert (findings["platform"].state, findings["platform"].do) == ("failed", "komputer up")
    assert findings["data directory"].do == f"chmod 700 {tmp_path}"
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        findings = await found(tmp_path)
    assert findings["platform"].state == "ok"
    assert "KOMPUTER_API" in findings["parts"].do


@pytest.mark.parametrize("content", ["", "[]", "{", '{"format": "x"}', '{"format": 99}'])
async def test_settings_that_cannot_be_read_are_a_finding(tmp_path: Path, content: str) -> None:
    (tmp_path / "komputer.json").write_text(content)
    assert (await LaptopDoctor(tmp_path, "")._directory()).state == "failed"


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
