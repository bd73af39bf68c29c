"""Agents by kubectl alone, and beside the API."""

import json
from typing import Any

from tests.e2e.platform import Platform, script, until


def test_kubectl_apply_runs_an_agent_once_and_an_edit_runs_it_again(platform: Platform) -> None:
    manifest: Any = {
        "apiVersion": "komputer.komputer.ai/v1alpha1",
        "kind": "KomputerAgent",
        "metadata": {"name": "applied", "namespace": "default"},
        "spec": {"instructions": script({"say": "Applied."})},
    }
    platform.kubectl("apply", "-f", "-", given=json.dumps(manifest))
    assert platform.end("applied")["payload"]["result"] == "Applied."
    platform.settled("applied", taskStatus="Complete")
    platform.kubectl("apply", "-f", "-", given=json.dumps(manifest))
    manifest["spec"] = {"instructions": script({"say": "Edited."})}
    platform.kubectl("apply", "-f", "-", given=json.dumps(manifest))
    assert platform.end("applied", 2)["payload"]["result"] == "Edited."
    assert platform.post("applied", script({"say": "Asked."})).status_code == 200
    assert platform.end("applied", 3)["payload"]["result"] == "Asked."
    platform.kubectl("apply", "-f", "-", given=json.dumps(manifest))
    platform.settled("applied", taskStatus="Complete")
    starts = [e for e in platform.events("applied") if e["type"] == "task_started"]
    assert len(starts) == 3
    columns = platform.kubectl("get", "komputeragents", "applied")
    assert columns.split("\n")[0].split()[:5] == ["NAME", "PHASE", "TASK", "MODEL", "COST"]
    assert "Running" in columns
    logs = platform.kubectl("logs", "applied-pod")
    assert logs is not None
    platform.kubectl("delete", "komputeragent", "applied")
    until(lambda: platform.http.get("/agents/applied").status_code == 404, "it is gone")


def test_settings_that_somebody_changed_are_put_right_and_disks_grow(platform: Platform) -> None:
    found = json.loads(platform.kubectl("get", "komputeragentclustertemplate", "default", "-o", "json"))
    template: Any = {"apiVersion": found["apiVersion"], "kind": "KomputerAgentTemplate", "spec": found["spec"]}
    template["metadata"] = {"name": "roomy", "namespace": "default"}
    platform.kubectl("apply", "-f", "-", given=json.dumps(template))
    platform.assign("kept", script({"say": "Hello."}), templateRef="roomy")
    platform.end("kept")
    settings = {"data": {"KOMPUTER_GATEWAY_URL": "http://nowhere"}}
    platform.kubectl("patch", "configmap", "kept-config", "--type=merge", "-p", json.dumps(settings))
    until(
        lambda: "nowhere" not in platform.kubectl("get", "configmap", "kept-config", "-o", "json"), "they are put right"
    )
    template["spec"].setdefault("storage", {})["size"] = "20Gi"
    platform.kubectl("apply", "-f", "-", given=json.dumps(template))
    size = ("get", "pvc", "kept-pvc", "-o", "jsonpath={.spec.resources.requests.storage}")
    until(lambda: platform.kubectl(*size) == "20Gi", "its disk grows")
    assert platform.http.delete("/agents/kept").status_code == 200
    platform.kubectl("delete", "komputeragenttemplate", "roomy")
