"""Checks whether the gateway reaches Redis, and whether Redis is configured to keep all data (eviction, durability)."""

from komputer.doctor.cluster import in_pod
from komputer.doctor.cluster.installation import Installation
from komputer.doctor.report import Result, failed, ok, warning


async def examine(installation: Installation) -> Result:
    found = await in_pod.probe(installation)
    if isinstance(found, Result):
        return found
    redis = found["redis"]
    if error := redis.get("error"):
        return failed(error, "redis.url, its password, its NetworkPolicy")
    server = f"{redis['server']} {redis['version']}"
    if redis["policy"] not in ("noeviction", "unknown"):
        return failed(f"{server} evicts events ({redis['policy']})", "maxmemory-policy noeviction")
    if redis["durability"] == "none":
        return warning(f"{server} may lose its last second in a crash", "appendonly yes, Redis ≥ 7.2")
    return ok(f"{server}, starts and ends of tasks reach the disk before they are answered")
