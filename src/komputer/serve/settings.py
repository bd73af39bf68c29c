"""Settings of the processes of a cluster: flags, or environment variables of the same names (`--redis-url`,
`KOMPUTER_REDIS_URL`). Secrets are not among them: those are read from files."""

import ipaddress
import logging
import socket
import sys
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import structlog
from pydantic import AliasChoices, BeforeValidator, Field, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from komputer.bootstrap import logs
from komputer.bootstrap.backends import STREAM_PREFIX, Backends
from komputer.bootstrap.server import Endpoint, Ready
from komputer.domain import names
from komputer.domain.errors import Invalid
from komputer.redis.address import Address

log = structlog.get_logger(__name__)


def _separated(given: Any) -> Any:
    """Return a text such as `a, b` as a list of two texts, and an empty text as an empty list."""
    return [part.strip() for part in given.split(",") if part.strip()] if isinstance(given, str) else given


Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Listed = (NoDecode, BeforeValidator(_separated))


class Process(BaseSettings):
    """Settings of every process."""

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
    port: Annotated[int, Field(ge=0, le=65535, description="port to listen on; 0 takes a free one")]
    drain_seconds: int = Field(
        20, ge=0, description="how long open requests may take after SIGTERM; below terminationGracePeriodSeconds"
    )
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "text"] = "json"

    def listen(self, option: str = "port") -> socket.socket:
        """Return a listening socket on the port that `option` names. Raises `Invalid` (`address_in_use`) if the port is
        in use or the host is not an address of this machine."""
        family, port = socket.AF_INET6 if ":" in self.host else socket.AF_INET, getattr(self, option)
        try:
            return socket.create_server((self.host, port), family=family, backlog=1024)
        except OSError as wrong:
            raise Invalid(
                f"cannot listen on {self.host}:{port} ({wrong.strerror}); choose another with "
                f"--{option.replace('_', '-')}",
                code="address_in_use",
            ) from wrong

    def endpoint(self) -> Endpoint:
        """Open the sockets that the process serves, and return them. Raises `Invalid` (`address_in_use`)."""
        listening = self.listen()
        return Endpoint(listening, announcement(listening), grace_s=self.drain_seconds)

    def log_to_stderr(self) -> None:
        logs.configure(logging.StreamHandler(sys.stderr), self.log_level, self.log_format)


def announcement(listening: socket.socket) -> Ready:
    """Return a function that logs that the process is ready, with the address of the socket: for the option `0` the
    system has chosen the port."""
    host, port = listening.getsockname()[:2]
    return lambda: log.info("ready", host=host, port=port)


class Common(Process):
    """Settings of every process that uses the Kubernetes API and the event log."""

    metrics_port: int
    redis_url: str = Field(
        description="redis://host:port/db, rediss://… (TLS), unix:///path, or redis+sentinel://host:port,…/master/db"
    )
    redis_username: str | None = Field(None, description="user name, if Redis has ACLs")
    redis_password_file: Path | None = Field(None, description="password of Redis; read for each new connection")
    sentinel_password_file: Path | None = Field(None, description="password of the Sentinels themselves")
    redis_ca_file: Path | None = Field(
        None, description="authorities (PEM) to check Redis' certificate with, instead of the system's"
    )
    stream_prefix: str = Field(STREAM_PREFIX, description="prefix of all keys in Redis")
    kubeconfig: Path | None = Field(
        None,
        validation_alias=AliasChoices("kubeconfig", "KUBECONFIG"),
        description="default: the cluster of the pod that this runs in",
    )
    namespaces: Annotated[tuple[str, ...], *Listed] = Field(
        (), description="namespaces to watch, separated by commas; none: all"
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
        """The namespaces to watch. None: all."""
        return self.namespaces or None

    @property
    def backends(self) -> Backends:
        return Backends(self.kubeconfig, self.redis, self.stream_prefix)

    def endpoint(self) -> Endpoint:
        return replace(super().endpoint(), metrics=self.listen("metrics_port"))
