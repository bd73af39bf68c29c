"""The checks of an installation on a cluster."""

from typing import Final

from komputer.doctor.cluster import (
    clock,
    configuration,
    definitions,
    model,
    network_policy,
    parts,
    redis,
    rights,
    storage,
    token_audience,
    versions,
)
from komputer.doctor.cluster.installation import Installation
from komputer.doctor.report import Check

CHECKS: Final = (
    Check("versions", versions.examine),
    Check("clock", clock.examine),
    Check("definitions", definitions.examine),
    Check("configuration", configuration.examine),
    Check("parts", parts.examine),
    Check("rights", rights.examine),
    Check("storage", storage.examine),
    Check("token audience", token_audience.examine),
    Check("redis", redis.examine),
    Check("model", model.examine),
    Check("network policy", network_policy.examine),
)
"""The checks, in order. `parts` reads the Deployments, so it precedes the checks that need them."""

__all__ = ["CHECKS", "Installation"]
