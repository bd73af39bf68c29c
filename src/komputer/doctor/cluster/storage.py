"""Checks whether the StorageClass of agents' disks exists."""

from typing import Any, Final

from komputer.doctor.cluster.installation import Installation
from komputer.doctor.report import Result, failed, ok
from komputer.kube import Kind

STORAGE_CLASSES: Final = Kind("storage.k8s.io", "v1", "storageclasses", "StorageClass", namespaced=False)
DEFAULT_CLASS: Final = "storageclass.kubernetes.io/is-default-class"


async def examine(installation: Installation) -> Result:
    template = await installation.default_template()
    wanted = (template.get("storage") or {}).get("storageClassName")
    classes = (await installation.cluster.list(STORAGE_CLASSES)).items
    existing = {each["metadata"]["name"] for each in classes}
    default = [each["metadata"]["name"] for each in classes if _is_default(each)]
    if wanted and wanted not in existing:
        return failed(f"there is no StorageClass {wanted!r}", "agents.template.storageClassName")
    if not wanted and not default:
        fix = "mark a StorageClass as the default, or set agents.template.storageClassName"
        return failed("there is no default StorageClass: agents' disks would wait for ever", fix)
    return ok(f"agents' disks are of class {wanted or default[0]}")


def _is_default(storage_class: dict[str, Any]) -> bool:
    return (storage_class["metadata"].get("annotations") or {}).get(DEFAULT_CLASS) == "true"
