"""The Kubernetes API: the client (`Cluster`), a cache of one kind (`Cache`: list and watch), leader election (`Lease`),
and the translation of the API's refusals into our errors. No other package calls the API.

Manifests are plain dicts here and for callers: their meaning belongs to `domain/`. Nothing here knows whether the API
is a cluster's or the laptop's, and nothing here decides what should exist.
"""

from komputer.kube.cache import Cache
from komputer.kube.cluster import Cluster, ListResult, WatchEvent
from komputer.kube.errors import KIND_MISSING, NAMESPACE_NOT_FOUND, ResourceExpired
from komputer.kube.kinds import (
    AGENTS,
    CLUSTER_TEMPLATES,
    CONFIG_MAPS,
    CONFIGS,
    CONNECTORS,
    CRDS,
    EVENTS,
    LEASES,
    NAMESPACES,
    NETWORK_POLICIES,
    PODS,
    PVCS,
    SECRETS,
    SERVICE_ACCOUNTS,
    TEMPLATES,
    Kind,
    Manifest,
)
from komputer.kube.reviews import IssuedToken, TokenIdentity
from komputer.kube.store import CacheChange

__all__ = [
    "AGENTS",
    "CLUSTER_TEMPLATES",
    "CONFIGS",
    "CONFIG_MAPS",
    "CONNECTORS",
    "CRDS",
    "EVENTS",
    "KIND_MISSING",
    "LEASES",
    "NAMESPACES",
    "NAMESPACE_NOT_FOUND",
    "NETWORK_POLICIES",
    "PODS",
    "PVCS",
    "SECRETS",
    "SERVICE_ACCOUNTS",
    "TEMPLATES",
    "Cache",
    "CacheChange",
    "Cluster",
    "IssuedToken",
    "Kind",
    "ListResult",
    "Manifest",
    "ResourceExpired",
    "TokenIdentity",
    "WatchEvent",
]
