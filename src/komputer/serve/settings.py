"""What the processes of a cluster are told: as flags or as environment variables of the same name (`--redis-url`,
`KOMPUTER_REDIS_URL`). No secret is among them: those are files."""

import ipaddress
import logging
import signal
import socket
import sys
from asyncio import Event, get_running_loop
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import structlog
from pydantic import AliasChoices, BeforeValidator, Field, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from komputer.domain import names
from komputer.domain.errors import Invalid
from komputer.events.log import Log
from komputer.kube import Cluster
from komputer.redis.address import Address
from komputer.serve import logs
from komputer.serve.metrics import scraped

log = structlog.get_logger(__name__)


def _separated(given: Any) -> Any:
    """`a, b` as a list; empty text is an empty one."""
    return [part.strip() for part in given.split(",") if part.strip()] if isinstance(given, str) else given


Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Listed = (NoDecode, BeforeValidator(_separated))


class Process(BaseSettings):
    """Of each process."""

    model_config = SettingsConfigDict(
        env_prefix="KOMPUTER_",
        env_ignore_empty=True,
        frozen=True,
        extra="ignore",
        populate_by_name=True,
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        ignored_types=(cached_property,),
    )

    host: str = Field("127.0.0.1", description="address to listen on")
    port: Annotated[int, Field(ge=0, le=65535, description="to listen on; 0 takes a free one")]
    drain_seconds: int = Field(
        20, ge=0, description="for requests under way after SIGTERM; below terminationGracePeriodSeconds"
    )
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "text"] = "json"

    def listen(self, option: str = "port") -> socket.socket:
        """A listening socket on the port of that option. Raises `Invalid` (`address_in_use`) where it is taken, or the
        host is no address of ours."""
        family, port = socket.AF_INET6 if ":" in self.host else socket.AF_INET, getattr(self, option)
        try:
            return socket.create_server((self.host, port), family=family, backlog=1024)
        except OSError as wrong:
            raise Invalid(
                f"cannot listen on {self.host}:{port} ({wrong.strerror}); choose another with "
                f"--{option.replace('_', '-')}",
                code="address_in_use",
            ) from wrong

    def log_to_stderr(self) -> None:
        logs.to(logging.StreamHandler(sys.stderr), self.log_level, self.log_format)


class Common(Process):
    """Of each process that knows the cluster and the event log."""

    metrics_port: int
    redis_url: str = Field(
        description="redis://host:port/db, rediss://… (TLS), unix:///path, or redis+sentinel://host:port,…/master/db"
    )
    redis_username: str | None = Field(None, description="where Redis has ACLs")
    redis_password_file: Path | None = Field(None, description="read at each new connection")
    sentinel_password_file: Path | None = Field(None, description="of the Sentinels themselves")
    redis_ca_file: Path | None = Field(None, description="PEM, in the place of the system's authorities")
    stream_prefix: str = Field("komputer-events", description="of all keys in Redis")
    kubeconfig: Path | None = Field(
        None,
        validation_alias=AliasChoices("kubeconfig", "KUBECONFIG"),
        description="without one: the cluster of the pod that this runs in",
    )
    namespaces: Annotated[tuple[str, ...], *Listed] = Field(
        (), description="to look at, separated by commas; none: all"
    )

    @model_validator(mode="after")
    def _is_possible(self) -> "Common":
        for namespace in self.namespaces:
            if not names.is_agent_name(namespace):
                raise ValueError(f"{namespace!r} is not the name of a namespace")
        _ = self.redis
        return self

    @cached_property
    def redis(self) -> Address:
        try:
            return Address(
                self.redis_url,
                self.redis_username,
                self.redis_password_file,
                self.sentinel_password_file,
                self.redis_ca_file,
            )
        except Invalid as wrong:
            raise ValueError(wrong.message) from wrong

    @property
    def scope(self) -> tuple[str, ...] | None:
        """The namespaces; None: all."""
        return self.namespaces or None

    @asynccontextmanager
    async def scraped(self, text: Callable[[], bytes]) -> AsyncIterator[None]:
        """Serves `/metrics` meanwhile. Raises `Invalid` (`address_in_use`)."""
        listening = self.listen("metrics_port")
        async with scraped(listening, text):
            log.info("metrics", port=listening.getsockname()[1])
            yield

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[tuple[Cluster, Log]]:
        """The Kubernetes API and the event log, closed at the end. Raises `Invalid` (`kubeconfig`)."""
        self.log_to_stderr()
        cluster = Cluster.connect(self.kubeconfig)
        log = Log.connect(self.redis, prefix=self.stream_prefix)
        try:
            yield cluster, log
        finally:
            await cluster.close()
            await log.close()


def stop_signal() -> Event:
    """Set by SIGTERM and SIGINT."""
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        get_running_loop().add_signal_handler(number, stop.set)
    return stop
