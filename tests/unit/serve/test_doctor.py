"""What the doctor says where it cannot look: of an API server that knows the parts and nothing else."""

import asyncio
import os
from pathlib import Path

import psutil
import pytest

from komputer.serve import doctor
from komputer.serve.doctor import COMPONENT, OURS, Doctor, Finding
from tests.unit.kube.server import answer_json, answering
from tests.waiting import eventually


async def only_parts(request: str, writer: asyncio.StreamWriter) -> None:
    if "/deployments" not in request:
        await answer_json(writer, 404, {"reason": "NotFound"})
        return
    parts = [
        {
            "metadata": {"name": f"komputer-{part}", "namespace": "platform", "labels": {COMPONENT: part}},
            "spec": {"template": {"spec": {"serviceAccountName": part, "containers": [{}]}}},
            "status": {"availableReplicas": 1},
        }
        for part in OURS
    ]
    await answer_json(writer, 200, {"metadata": {"resourceVersion": "1"}, "items": parts})


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_a_pod_that_cannot_be_asked_in_time_is_a_finding_and_the_other_checks_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubectl, pids = tmp_path / "kubectl", tmp_path / "pids"
    kubectl.write_text(f"#!/bin/sh\nsleep 600 &\necho $$ $! >> {pids}\nwait\n")
    kubectl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(doctor, "PROBE_S", 1.0)
    told: list[Finding] = []
    async with answering(only_parts, tmp_path) as cluster:
        found = await Doctor(cluster, None, "", probes=False).findings(told.append)
    assert [each.check for each in told] == [each.check for each in found]
    assert found[-1].check == "network policy", "the last one was asked too"
    for check in ("redis", "model"):
        (finding,) = [each for each in found if each.check == check]
        assert finding.state == "failed"
        assert finding.said == "a pod of deployment/komputer-gateway could not be asked within 1 s"
        assert "kubectl -n platform exec deployment/komputer-gateway -- true" in finding.do
    asked = [int(pid) for pid in pids.read_text().split()]
    assert len(asked) == 4, "kubectl, and what it has started, for each of the two"

    async def are_gone() -> bool:
        return not any(is_alive(pid) for pid in asked)

    await eventually(are_gone)
