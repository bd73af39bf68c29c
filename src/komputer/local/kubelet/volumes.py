"""The volumes of a pod: their folders, and the files written into them."""

import os
from base64 import b64decode
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from komputer.domain.base import Manifest
from komputer.domain.errors import Invalid, KomputerError, NotFound
from komputer.kube import CONFIG_MAPS, PVCS, SECRETS, Cluster
from komputer.local.kubelet import claims
from komputer.local.kubelet.sandbox import Mount

TOKEN_RENEWAL_SHARE = 0.8
"""Share of a projected token's lifetime after which it is renewed, as in the kubelet."""


class NotMounted(KomputerError):
    """A container cannot start yet. The message says what is missing."""

    code = "not_mounted"


def write_atomically(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write a file so that readers see either the old or the new content."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.new")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
    temporary.replace(path)


class Volumes:
    """The volumes of one pod. `make` creates them, `refresh` renews tokens."""

    def __init__(self, cluster: Cluster, pod: Manifest, folder: Path, claim_folders: Path) -> None:
        self._cluster = cluster
        self._pod = pod
        self._folder = folder
        self._claim_folders = claim_folders
        self._namespace: str = pod["metadata"]["namespace"]
        self._tokens: dict[Path, datetime] = {}

    async def make(self) -> dict[str, Path]:
        """Create the volumes and return each one's folder by its name. Raises `NotMounted` if something is missing."""
        made: dict[str, Path] = {}
        for volume in self._pod["spec"].get("volumes", ()):
            name = volume["name"]
            made[name] = path = self._folder / name
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            if "emptyDir" in volume:
                path.chmod(0o700)  # the agent owns it, and may have removed its own permissions
            if "persistentVolumeClaim" in volume:
                made[name] = await self._claim(volume["persistentVolumeClaim"]["claimName"])
            elif "configMap" in volume:
                await self._write_config_map(path, volume["configMap"], volume["configMap"].get("name", ""))
            elif "secret" in volume:
                await self._write_secret(path, volume["secret"], volume["secret"].get("secretName", ""))
            elif "projected" in volume:
                for source in volume["projected"].get("sources", ()):
                    await self._project(path, source)
            elif "emptyDir" not in volume:
                raise NotMounted(f"volume {name!r} has a type that this kubelet does not support")
        return made

    async def refresh(self, now: datetime) -> None:
        """Write new tokens for those that are due for renewal or were deleted."""
        if any(now >= due or not path.exists() for path, due in self._tokens.items()):
            await self.make()

    async def _claim(self, name: str) -> Path:
        try:
            claim = await self._cluster.get(PVCS, name, self._namespace)
            claim = await claims.bind(self._cluster, claim)
        except NotFound as missing:
            raise NotMounted(f'persistentvolumeclaim "{name}" not found') from missing
        if claims.is_deleted(claim):
            raise NotMounted(f'persistentvolumeclaim "{name}" is being deleted')
        path = claims.claim_folder(self._claim_folders, claim)
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        return path

    async def _write_config_map(self, path: Path, source: Manifest, name: str) -> None:
        try:
            data = (await self._cluster.get(CONFIG_MAPS, name, self._namespace)).get("data") or {}
        except NotFound as missing:
            if source.get("optional"):
                return
            raise NotMounted(f'configmap "{name}" not found') from missing
        _write_items(path, source, {key: value.encode() for key, value in data.items()})

    async def _write_secret(self, path: Path, source: Manifest, name: str) -> None:
        try:
            data = (await self._cluster.get(SECRETS, name, self._namespace)).get("data") or {}
        except NotFound as missing:
            if source.get("optional"):
                return
            raise NotMounted(f'secret "{name}" not found') from missing
        _write_items(path, source, {key: b64decode(value) for key, value in data.items()})

    async def _project(self, path: Path, source: Manifest) -> None:
        if "configMap" in source:
            await self._write_config_map(path, source["configMap"], source["configMap"].get("name", ""))
        elif "secret" in source:
            await self._write_secret(path, source["secret"], source["secret"].get("name", ""))
        elif "serviceAccountToken" in source:
            await self._write_token(path / source["serviceAccountToken"]["path"], source["serviceAccountToken"])
        else:
            raise NotMounted("a projected volume has a source that this kubelet does not support")

    async def _write_token(self, path: Path, source: Manifest) -> None:
        """Write a projected token, unless the present one has not reached `TOKEN_RENEWAL_SHARE` of its lifetime."""
        now = datetime.now(UTC)
        if path in self._tokens and now < self._tokens[path] and path.exists():
            return
        meta = self._pod["metadata"]
        lifetime = timedelta(seconds=source.get("expirationSeconds", 3600))
        try:
            token, _ = await self._cluster.create_token(
                self._pod["spec"].get("serviceAccountName", "default"),
                self._namespace,
                audience=source.get("audience", ""),
                expiration_s=int(lifetime.total_seconds()),
                pod_name=meta["name"],
                pod_uid=meta["uid"],
            )
        except (NotFound, Invalid) as missing:
            raise NotMounted(f"no token for the pod's service account: {missing.message}") from missing
        write_atomically(path, token.encode())
        self._tokens[path] = now + lifetime * TOKEN_RENEWAL_SHARE

    def mounts(self, container: Manifest, made: dict[str, Path]) -> list[Mount]:
        """Return the mounts of a container. Raises `NotMounted` for a volume that the pod does not have."""
        found = []
        for mount in container.get("volumeMounts", ()):
            if mount["name"] not in made:
                raise NotMounted(f"the container mounts volume {mount['name']!r}, which the pod does not have")
            source = made[mount["name"]]
            if mount.get("subPath"):
                source = inside(source, mount["subPath"])
                source.mkdir(parents=True, exist_ok=True, mode=0o700)
            found.append(Mount(source, mount["mountPath"], bool(mount.get("readOnly"))))
        return found


def inside(folder: Path, part: str) -> Path:
    """Return `folder/part`. Raises `NotMounted` if that is outside of `folder`."""
    path = (folder / part).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise NotMounted(f"{part!r} is outside of its volume")
    return path


def _write_items(path: Path, source: Manifest, data: dict[str, bytes]) -> None:
    items: list[dict[str, Any]] = source.get("items") or [{"key": key, "path": key} for key in data]
    for item in items:
        if item["key"] not in data:
            if source.get("optional"):
                continue
            raise NotMounted(f"key {item['key']!r} not found")
        write_atomically(inside(path, item["path"]), data[item["key"]])
