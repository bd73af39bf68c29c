"""The environment variables that a container declares: literal values, and values read from the cluster."""

from base64 import b64decode

from komputer.domain.base import Manifest
from komputer.domain.errors import NotFound
from komputer.kube import CONFIG_MAPS, SECRETS, Cluster


async def declared_environment(cluster: Cluster, pod: Manifest, container: Manifest) -> dict[str, str]:
    """Return the variables of `env` and `envFrom`. Raises `NotFound` for a missing object or key that is not
    optional."""
    namespace = pod["metadata"]["namespace"]
    found: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        prefix = source.get("prefix", "")
        reference = source.get("configMapRef") or source.get("secretRef") or {}
        try:
            data = await _data(cluster, namespace, reference["name"], is_config_map="configMapRef" in source)
        except NotFound:
            if reference.get("optional"):
                continue
            raise
        found |= {prefix + key: value for key, value in data.items()}
    for variable in container.get("env", ()):
        value = variable.get("value", "")
        if "valueFrom" in variable:
            resolved = await _resolve(cluster, pod, variable["valueFrom"])
            if resolved is None:
                continue
            value = resolved
        found[variable["name"]] = value
    return found


async def _resolve(cluster: Cluster, pod: Manifest, source: Manifest) -> str | None:
    """Return the value of a `valueFrom`; None for an optional one that does not exist."""
    meta = pod["metadata"]
    if "fieldRef" in source:
        fields = {f"metadata.{key}": meta.get(key, "") for key in ("name", "namespace", "uid")}
        path = source["fieldRef"]["fieldPath"]
        return str(fields.get(path, pod["spec"].get(path.removeprefix("spec."), "")))
    for key, is_config_map in (("configMapKeyRef", True), ("secretKeyRef", False)):
        if key in source:
            reference = source[key]
            try:
                data = await _data(cluster, meta["namespace"], reference["name"], is_config_map=is_config_map)
                return data[reference["key"]]
            except (NotFound, KeyError) as missing:
                if reference.get("optional"):
                    return None
                raise NotFound(f"key {reference['key']!r} of {reference['name']!r} not found") from missing
    return None


async def _data(cluster: Cluster, namespace: str, name: str, *, is_config_map: bool) -> dict[str, str]:
    found = (await cluster.get(CONFIG_MAPS if is_config_map else SECRETS, name, namespace)).get("data") or {}
    return found if is_config_map else {key: b64decode(value).decode() for key, value in found.items()}
