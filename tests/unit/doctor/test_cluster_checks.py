"""The checks of a cluster whose API server answers only for the Deployments of the parts."""

import asyncio
import os
from pathlib import Path

import psutil
import pytest

from komputer.doctor import cluster as doctor
from komputer.doctor.cluster import in_pod
from komputer.doctor.cluster.installation import COMPONENT, PARTS
from komputer.doctor.report import Finding, run
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
        for part in PARTS
    ]
    await answer_json(writer, 200, {"metadata": {"resourceVersion": "1"}, "items": parts})


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_a_pod_that_does_not_answer_in_time_fails_its_check_and_the_others_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubectl, pids = tmp_path / "kubectl", tmp_path / "pids"
    kubectl.write_text(f"#!/bin/sh\nsleep 600 &\necho $$ $! >> {pids}\nwait\n")
    kubectl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(in_pod, "TIMEOUT_S", 1.0)
    reported: list[Finding] = []
    async with answering(only_parts, tmp_path) as cluster:
        installation = doctor.Installation(cluster, None, "", runs_pods=False)
        found = await run(doctor.CHECKS, installation, reported.append)
    assert [each.check for each in reported] == [each.check for each in found]
    assert found[-1].check == "network policy", "the last one ran too"
    for check in ("redis", "model"):
        (finding,) = [each for each in found if each.check == check]
        assert finding.state == "failed"
        assert finding.message == "a pod of deployment/komputer-gateway did not answer within 1 s"
        assert "kubectl -n platform exec deployment/komputer-gateway -- true" in finding.fix
    started = [int(pid) for pid in pids.read_text().split()]
    assert len(started) == 4, "kubectl and its child, for each of the two"

    async def are_gone() -> bool:
        return not any(is_alive(pid) for pid in started)

    await eventually(are_gone)
