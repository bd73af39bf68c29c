"""The checks of a platform that `komputer up` runs on this machine."""

from typing import Final

from komputer.doctor.laptop import (
    data_directory,
    descriptors,
    disk,
    kubectl,
    memory,
    model,
    parts,
    platform,
    sandbox,
    versions,
)
from komputer.doctor.laptop.machine import Machine
from komputer.doctor.report import Check

CHECKS: Final = (
    Check("versions", versions.examine),
    Check("data directory", data_directory.examine),
    Check("platform", platform.examine),
    Check("parts", parts.examine),
    Check("model", model.examine),
    Check("sandbox", sandbox.examine),
    Check("disk", disk.examine),
    Check("memory", memory.examine),
    Check("descriptors", descriptors.examine),
    Check("kubectl", kubectl.examine),
)

__all__ = ["CHECKS", "Machine"]
