"""Checks whether the gateway reaches the model, and the model accepts the credential."""

from komputer.doctor.cluster import in_pod
from komputer.doctor.cluster.installation import Installation
from komputer.doctor.report import Result, failed, ok


async def examine(installation: Installation) -> Result:
    found = await in_pod.probe(installation)
    if isinstance(found, Result):
        return found
    state, message = found["model"]["state"], found["model"]["message"]
    if state == "refused":
        return failed(message, "put a valid key into model.existingSecret")
    if state == "unreachable":
        return failed(message, "model.baseURL, a proxy (gateway.extraEnv), egress of the gateway")
    return ok(message)
