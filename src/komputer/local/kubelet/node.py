"""The machine on which pods run: its folders, images, kind of sandbox, and the state of its disk."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from komputer.domain.base import Manifest
from komputer.local.kubelet import logs
from komputer.local.kubelet.sandbox import Sandbox


@dataclass
class Node:
    """Facts shared by all pods of this machine. The kubelet keeps `full_disk` and `has_etc` up to date; the rest never
    changes."""

    data_dir: Path
    sandbox: Sandbox
    images: Mapping[str, list[str]]
    """The command that each image name stands for."""
    full_disk: str | None = None
    """Why no container may start at present (the disk is full), or None."""
    has_etc: bool = False
    """Whether this kubelet has created `etc`. One that an earlier kubelet left is about to be replaced: a sandbox that
    bound it would have an empty /etc."""

    @property
    def pods(self) -> Path:
        """The folder of the pods' own folders."""
        return self.data_dir / "pods"

    @property
    def volumes(self) -> Path:
        """The folder of the claims' folders."""
        return self.data_dir / "volumes"

    @property
    def logs(self) -> Path:
        """The folder of the pods' log folders."""
        return self.data_dir / "logs" / "pods"

    @property
    def etc(self) -> Path:
        """The folder that every sandbox sees as /etc."""
        return self.data_dir / "etc"

    def pod_folder(self, pod: Manifest) -> Path:
        """Return the folder of a pod: its volumes, and its containers' home and temporary folders."""
        return self.pods / str(pod["metadata"]["uid"])

    def log_folder(self, pod: Manifest) -> Path:
        """Return the folder of a pod's logs."""
        return logs.pod_folder(self.logs, pod)
