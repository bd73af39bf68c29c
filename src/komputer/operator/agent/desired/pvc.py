"""The agent's disk."""

import re
from decimal import Decimal
from typing import Final

from komputer.domain import names
from komputer.domain.agent import Agent
from komputer.domain.base import Manifest
from komputer.domain.template import TemplateSpec
from komputer.operator.agent.desired.metadata import metadata

_UNITS: Final = {
    "": 1,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}


def workspace(agent: Agent, template: TemplateSpec) -> Manifest:
    """Return the PersistentVolumeClaim of the workspace, which outlives the agent's pods."""
    spec: Manifest = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": template.storage.size}},
    }
    if template.storage.storage_class_name is not None:
        spec["storageClassName"] = template.storage.storage_class_name
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata(agent, names.pvc_name(agent.metadata.name)),
        "spec": spec,
    }


def grown(found: Manifest, desired: Manifest) -> Manifest | None:
    """Return the merge patch that grows a claim to the desired size; None if it is large enough. Kubernetes cannot
    shrink claims."""
    has, wants = (
        claim.get("spec", {}).get("resources", {}).get("requests", {}).get("storage", "0") for claim in (found, desired)
    )
    before, after = _bytes(has), _bytes(wants)
    if before is None or after is None or after <= before:
        return None
    return {"spec": {"resources": {"requests": {"storage": wants}}}}


def _bytes(quantity: object) -> Decimal | None:
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([A-Za-z]*)", str(quantity))
    return Decimal(found[1]) * _UNITS[found[2]] if found and found[2] in _UNITS else None
