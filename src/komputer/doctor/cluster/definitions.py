"""Checks whether the resource definitions (CRDs) are those of this version."""

from collections.abc import Iterator
from typing import Any

from komputer.doctor.cluster.installation import Installation
from komputer.doctor.report import Result, failed, ok, warning
from komputer.domain import crds
from komputer.domain.errors import NotFound
from komputer.kube import CRDS

FIX = "kubectl apply --server-side --force-conflicts -f charts/komputer/crds"


async def examine(installation: Installation) -> Result:
    missing, outdated = [], []
    expected = crds.manifests()
    for manifest in expected:
        name = manifest["metadata"]["name"]
        try:
            found = await installation.cluster.get(CRDS, name)
        except NotFound:
            missing.append(name)
            continue
        served = {version["name"]: _fields(version) for version in found["spec"]["versions"]}
        if any(_fields(version) != served.get(version["name"]) for version in manifest["spec"]["versions"]):
            outdated.append(name)
    if missing:
        return failed(f"not installed: {', '.join(missing)}", FIX)
    if outdated:
        return warning(f"of another version: {', '.join(outdated)}", FIX)
    return ok(f"{len(expected)} are as this version has them")


def _fields(version: dict[str, Any]) -> set[str]:
    """Return the paths of all fields of a schema. Only paths are compared, since an API server adds defaults to the
    rest of a schema."""

    def paths(schema: dict[str, Any], at: str) -> Iterator[str]:
        for name, part in (schema.get("properties") or {}).items():
            yield f"{at}.{name}"
            yield from paths(part, f"{at}.{name}")
        if isinstance(schema.get("items"), dict):
            yield from paths(schema["items"], f"{at}[]")

    return set(paths(version["schema"]["openAPIV3Schema"], ""))
