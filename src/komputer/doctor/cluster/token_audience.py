"""Checks whether the API server issues and accepts tokens for the gateway's audience."""

from komputer.doctor.cluster.installation import Installation
from komputer.doctor.report import Result, failed, ok
from komputer.domain import names

TOKEN_S = 600
"""The lifetime of the token that is issued for the check: the shortest that Kubernetes accepts."""


async def examine(installation: Installation) -> Result:
    namespace = installation.namespace if installation.has_parts else "default"
    issued = await installation.cluster.create_token("default", namespace, names.GATEWAY_AUDIENCE, TOKEN_S)
    if await installation.cluster.review_token(issued.token, names.GATEWAY_AUDIENCE) is None:
        message = f"a token for the audience {names.GATEWAY_AUDIENCE} is not recognised"
        return failed(message, "the API server must support TokenRequest with audiences")
    return ok("pods' tokens are bound to the gateway")
