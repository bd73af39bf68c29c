"""Checks whether the cluster enforces the NetworkPolicy of agents, with a pod that has the labels of an agent's pod."""

import asyncio
from typing import Any, Final
from uuid import uuid4

from komputer.doctor.cluster.installation import Installation
from komputer.doctor.report import Result, failed, ok, skipped, warning
from komputer.domain import names
from komputer.domain.config import Config
from komputer.kube import CONFIGS, PODS, Kind

NETWORK_POLICIES: Final = Kind("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
TIMEOUT_S: Final = 90.0
"""How long the pod may run, including the download of its image."""


async def examine(installation: Installation) -> Result:
    config = Config.model_validate(await installation.cluster.get(CONFIGS, names.CONFIG_NAME))
    if config.spec.agent_network_policy is None:
        return warning("agents may reach everything", "agents.networkPolicy.enabled=true")
    if not installation.runs_pods:
        return skipped("not tried, for --no-probe")
    namespace = await _namespace_with_policy(installation)
    if namespace is None:
        return skipped("no namespace has agents yet")
    template = await installation.default_template()
    outcome = await _run(installation, namespace, _pod(template["podSpec"], config.spec.gateway_url))
    if outcome == "fenced":
        return ok("an agent's pod reaches the gateway and not the Kubernetes API")
    if outcome == "open":
        fix = "use a network plugin that enforces NetworkPolicies (Calico, Cilium, …)"
        return warning("policies are not enforced: agents reach the Kubernetes API", fix)
    return failed(f"an agent's pod does not reach the gateway ({outcome})", "the policy's rules")


async def _namespace_with_policy(installation: Installation) -> str | None:
    policies = (await installation.cluster.list(NETWORK_POLICIES)).items
    of_agents = (each["metadata"] for each in policies if each["metadata"]["name"] == names.SERVICE_ACCOUNT)
    return next((metadata["namespace"] for metadata in of_agents), None)


async def _run(installation: Installation, namespace: str, manifest: dict[str, Any]) -> str:
    """Run the pod, delete it, and return its termination message, or a sentence why there is none."""
    cluster, name = installation.cluster, manifest["metadata"]["name"]
    manifest["metadata"]["namespace"] = namespace
    await cluster.create(PODS, manifest)
    try:
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                pod = await cluster.get(PODS, name, namespace)
                for status in pod.get("status", {}).get("containerStatuses") or ():
                    if ended := status.get("state", {}).get("terminated"):
                        return str(ended.get("message") or ended.get("reason"))
                await asyncio.sleep(0.5)
    except TimeoutError:
        return "the probe pod did not end in time"
    finally:
        await cluster.delete(PODS, name, namespace)


def _pod(template: dict[str, Any], gateway_url: str) -> dict[str, Any]:
    """Return the manifest of a pod with an agent's image and label that tries two connections: to the gateway and to
    the Kubernetes API. Its termination message is `cut off` (it cannot reach the gateway), `open` (it can reach both)
    or `fenced` (it can reach the gateway only)."""
    (container, *_) = template["containers"]
    host, _, port = gateway_url.partition("://")[2].partition(":")
    program = (
        "import os, socket, sys\n"
        "def reaches(host, port):\n"
        "    try:\n"
        "        socket.create_connection((host, int(port)), 5).close()\n"
        "        return True\n"
        "    except OSError as error:\n"
        "        print(error)\n"
        "        return False\n"
        f"gateway = reaches({host!r}, {port or '80'!r})\n"
        "cluster = reaches(os.environ['KUBERNETES_SERVICE_HOST'], os.environ['KUBERNETES_SERVICE_PORT'])\n"
        "words = 'cut off' if not gateway else 'open' if cluster else 'fenced'\n"
        "open('/dev/termination-log', 'w').write(words)\n"
    )
    security = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"komputer-doctor-{uuid4().hex[:8]}", "labels": {names.AGENT_LABEL: "komputer-doctor"}},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "probe",
                    "image": container["image"],
                    "imagePullPolicy": container.get("imagePullPolicy", "IfNotPresent"),
                    "command": ["/opt/komputer/bin/python", "-I", "-c", program],
                    "securityContext": security,
                }
            ],
        },
    }
