"""Discovery: /version, /api, /apis and the lists of resources below them."""

from typing import Any

from komputer.local.apiserver.kinds import Registry, ResourceKind

Object = dict[str, Any]

VERSION = {
    "major": "1",
    "minor": "33",
    "gitVersion": "v1.33.0+komputer",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "2025-01-01T00:00:00Z",
    "goVersion": "",
    "compiler": "",
    "platform": "",
}


def core_versions(address: str) -> Object:
    """Return the body of /api."""
    servers = [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": servers}


def groups(registry: Registry) -> Object:
    """Return the body of /apis."""
    names = dict.fromkeys((kind.group, kind.version) for kind in registry if kind.group)
    listed = [
        {key: value for key, value in _group(*name).items() if key not in ("kind", "apiVersion")} for name in names
    ]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}


def group(registry: Registry, name: str) -> Object | None:
    """Return the body of /apis/<group>, None for an unknown group."""
    version = next((kind.version for kind in registry if kind.group == name), None)
    return _group(name, version) if name and version else None


def _group(name: str, version: str) -> Object:
    one = {"groupVersion": f"{name}/{version}", "version": version}
    return {"kind": "APIGroup", "apiVersion": "v1", "name": name, "versions": [one], "preferredVersion": one}


def resources(registry: Registry, name: str, version: str) -> Object | None:
    """Return the body of /api/v1 or /apis/<group>/<version>, None for an unknown one."""
    kinds = [kind for kind in registry if (kind.group, kind.version) == (name, version)]
    if not kinds:
        return None
    listed = [entry for kind in kinds for entry in _entries(kind)]
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{name}/{version}" if name else version,
        "resources": listed,
    }


def _entries(kind: ResourceKind) -> list[Object]:
    main: Object = {
        "name": kind.plural,
        "singularName": kind.singular or kind.kind.lower(),
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": list(kind.verbs),
    }
    if kind.short_names:
        main["shortNames"] = list(kind.short_names)
    if kind.categories:
        main["categories"] = list(kind.categories)
    entries = [main]
    below: Object = {"singularName": "", "namespaced": kind.namespaced, "kind": kind.kind}
    if kind.has_status:
        entries.append({"name": f"{kind.plural}/status", **below, "verbs": ["get", "patch", "update"]})
    for name, group_name, version, kind_name in kind.subresources:
        verbs = ["create"] if name == "token" else ["get"]
        entry = {"name": f"{kind.plural}/{name}", **below, "kind": kind_name, "verbs": verbs}
        entries.append(entry | ({"group": group_name, "version": version} if group_name else {}))
    return entries
