"""Checks whether each part has a Deployment with a pod that is ready. It finds the Deployments for later checks."""

from komputer.doctor.cluster.installation import PARTS, Installation
from komputer.doctor.report import Result, failed, ok


async def examine(installation: Installation) -> Result:
    await installation.find_deployments()
    found = installation.deployments
    missing = [part for part in PARTS if part not in found]
    if missing:
        return failed(f"there is no {', '.join(missing)}", "helm install (docs/install.md)")
    available = {part: found[part].get("status", {}).get("availableReplicas") or 0 for part in PARTS}
    down = [part for part in PARTS if not available[part]]
    namespace = installation.namespace
    if down:
        fix = f"kubectl -n {namespace} describe pods -l app.kubernetes.io/component={down[0]}"
        return failed(f"no pod is ready: {', '.join(down)}", fix)
    return ok(f"ready in {namespace}: {', '.join(f'{part} {count}' for part, count in available.items())}")
