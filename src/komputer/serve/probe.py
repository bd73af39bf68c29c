"""`komputer serve probe`: what a part can reach from where it runs, as JSON. `komputer doctor` asks it in a pod."""

from typing import Any

import aiohttp
import orjson

from komputer.domain import names
from komputer.domain.errors import KomputerError
from komputer.events.log import Log
from komputer.gateway import Credentials, UpstreamUnreachable, Vertex

WITHIN_S = 20.0
HELLO = {"model": names.DEFAULT_MODEL, "messages": [{"role": "user", "content": "Hello"}]}


async def redis(log: Log) -> dict[str, str]:
    """The server and what of its settings matters; `error` where it does not answer."""
    try:
        await log.ping()
        told: Any = await log.server.translated(lambda: log.server.redis.info("server"))
        settings = await _settings(log)
    except KomputerError as error:
        return {"error": error.message}
    server = "Valkey" if "valkey_version" in told else "Redis"
    version = str(told.get("valkey_version") or told.get("redis_version"))
    is_written = settings.get("appendonly") == "yes"
    waits = is_written and tuple(map(int, str(told.get("redis_version", "0")).split(".")[:2])) >= (7, 2)
    always = is_written and settings.get("appendfsync") == "always"
    durability = "waits" if waits else "always" if always else "none"
    return {
        "server": server,
        "version": version,
        "policy": settings.get("maxmemory-policy", "unknown"),
        "durability": durability if settings else "unknown",
    }


async def _settings(log: Log) -> dict[str, str]:
    """Empty where a managed server does not tell."""
    try:
        found = await log.server.redis.config_get("appendonly", "appendfsync", "maxmemory-policy")
    except Exception:  # border: some servers have no CONFIG, others refuse it, each in its own way
        return {}
    return {_text(key): _text(value) for key, value in found.items()}


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


async def model(base_url: str, vertex: Vertex | None, credential: Credentials) -> dict[str, str]:
    """Whether the model's address takes the credential; counting tokens costs nothing."""
    path, body = "/v1/messages/count_tokens", orjson.dumps(HELLO)
    if vertex:
        path, body = vertex.translated(path, body)
    headers = {"anthropic-version": "2023-06-01", "content-type": "application/json"}
    try:
        if given := await credential():
            headers |= dict([given.header])
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=WITHIN_S), trust_env=True) as http,
            # Not followed: the credential is for this address.
            http.post(f"{base_url.rstrip('/')}{path}", data=body, headers=headers, allow_redirects=False) as answer,
        ):
            status = answer.status
    except UpstreamUnreachable as error:
        return {"state": "refused", "said": error.message}
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        return {"state": "unreachable", "said": f"{base_url} cannot be reached ({type(error).__name__})"}
    if status in (401, 403):
        return {"state": "refused", "said": f"{base_url} does not accept the credential ({status})"}
    if status >= 500 or 300 <= status < 400:
        return {"state": "unreachable", "said": f"{base_url} answers with {status}, not as a model would"}
    return {"state": "ok", "said": f"{base_url} answers and takes the credential ({status})"}
