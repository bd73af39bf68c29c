"""Finds out whether Redis and the model can be reached from this process. `komputer doctor` runs it in a pod of the
gateway, as `komputer serve probe`."""

from typing import Any

import aiohttp
import orjson

from komputer.domain import names
from komputer.domain.errors import KomputerError
from komputer.events.log import Log
from komputer.gateway import Credentials, UpstreamUnreachable, Vertex

TIMEOUT_S = 20.0
HELLO = {"model": names.DEFAULT_MODEL, "messages": [{"role": "user", "content": "Hello"}]}


async def redis(log: Log) -> dict[str, str]:
    """Return the server's name, version, eviction policy and durability; `{"error": …}` if it does not answer."""
    try:
        await log.ping()
        info: Any = await log.server.translated(lambda: log.server.redis.info("server"))
        settings = await _settings(log)
    except KomputerError as error:
        return {"error": error.message}
    server = "Valkey" if "valkey_version" in info else "Redis"
    version = str(info.get("valkey_version") or info.get("redis_version"))
    is_written = settings.get("appendonly") == "yes"
    waits = is_written and tuple(map(int, str(info.get("redis_version", "0")).split(".")[:2])) >= (7, 2)
    always = is_written and settings.get("appendfsync") == "always"
    durability = "waits" if waits else "always" if always else "none"
    return {
        "server": server,
        "version": version,
        "policy": settings.get("maxmemory-policy", "unknown"),
        "durability": durability if settings else "unknown",
    }


async def _settings(log: Log) -> dict[str, str]:
    """Return the server's settings for eviction and durability; empty if a managed server does not permit CONFIG."""
    try:
        found = await log.server.redis.config_get("appendonly", "appendfsync", "maxmemory-policy")
    except Exception:  # each managed service refuses CONFIG with a different error
        return {}
    return {_text(key): _text(value) for key, value in found.items()}


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


async def model(base_url: str, vertex: Vertex | None, credential: Credentials) -> dict[str, str]:
    """Ask the model to count tokens, which costs nothing. Returns the `state` (`ok`, `refused` or `unreachable`) and a
    `message`, which never contains the credential."""
    path, body = "/v1/messages/count_tokens", orjson.dumps(HELLO)
    if vertex:
        path, body = vertex.translated(path, body)
    headers = {"anthropic-version": "2023-06-01", "content-type": "application/json"}
    try:
        if key := await credential():
            headers |= dict([key.header])
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S), trust_env=True) as http,
            # A redirect is not followed: the credential is meant for this address only.
            http.post(f"{base_url.rstrip('/')}{path}", data=body, headers=headers, allow_redirects=False) as answer,
        ):
            status = answer.status
    except UpstreamUnreachable as error:
        return {"state": "refused", "message": error.message}
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        return {"state": "unreachable", "message": f"{base_url} cannot be reached ({type(error).__name__})"}
    if status in (401, 403):
        return {"state": "refused", "message": f"{base_url} does not accept the credential ({status})"}
    if status >= 500 or 300 <= status < 400:
        return {"state": "unreachable", "message": f"{base_url} answers with {status}, not as a model would"}
    return {"state": "ok", "message": f"{base_url} answers and takes the credential ({status})"}
