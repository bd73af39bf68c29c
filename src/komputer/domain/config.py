"""KomputerConfig: the settings that all agents share."""

from collections.abc import Iterable
from typing import Annotated, ClassVar

from pydantic import Field, ValidationError

from komputer.domain.base import (
    AGE,
    ConditionsStatus,
    Int32,
    Manifest,
    Preserved,
    PrinterColumn,
    Resource,
    WireModel,
    fields_of,
)
from komputer.domain.template import SecretKeyRef


class RedisRef(WireModel):
    """Address of the event log. Pods never get it: only API, gateway and operator connect to Redis."""

    address: Annotated[str, Field(description="Host and port of the server, such as redis:6379.")]
    db: Annotated[Int32, Field(description="Number of the database.")] = 0
    stream_prefix: Annotated[str, Field(description="What the names of all keys begin with.")] = "komputer-events"
    password_secret: Annotated[SecretKeyRef | None, Field(description="Where the server's password is kept.")] = None


class SecretRef(WireModel):
    """A reference to a Secret."""

    name: Annotated[str, Field(description="Name of the Secret.")]
    namespace: Annotated[str | None, Field(description="Namespace of the Secret; without it any.")] = None


class ConfigSpec(WireModel):
    """Platform-wide settings."""

    redis: Annotated[RedisRef, Field(description="Where the event log is.")]
    api_url: Annotated[
        str | None, Field(description="Address of the REST API inside of the cluster.", alias="apiURL")
    ] = "http://komputer-api.default.svc.cluster.local:8080"
    gateway_url: Annotated[
        str, Field(alias="gatewayURL", description="What agents' pods talk to, and all that they talk to.")
    ] = "http://komputer-gateway.default.svc.cluster.local:8081"
    start_deadline_seconds: Annotated[
        Int32,
        Field(ge=1, description="How long a task may wait for a pod that cannot run before it ends with an error."),
    ] = 600
    stall_seconds: Annotated[
        Int32, Field(ge=1, description="How long the model's stream may be silent before the task is interrupted.")
    ] = 300
    max_attempts: Annotated[
        Int32, Field(ge=1, description="How often a task is resumed without progress before it ends with an error.")
    ] = 5
    max_agent_depth: Annotated[
        Int32, Field(ge=0, le=10, description="How deep managers may nest agents: 1 lets their agents make none.")
    ] = 2
    max_agents_per_manager: Annotated[
        Int32, Field(ge=0, le=1000, description="How many agents of its own a manager may have at once.")
    ] = 10
    agent_network_policy: Annotated[
        Preserved | None,
        Field(description="Spec of the NetworkPolicy that each namespace with agents gets. None: it gets none."),
    ] = None
    platform_secrets: Annotated[
        list[SecretRef],
        Field(max_length=100, description="The platform's own: no connector may send them, no agent gets them."),
    ] = Field(default_factory=list)


class Config(Resource):
    """The platform's settings. Only the object `default` counts."""

    kind_name: ClassVar[str] = "KomputerConfig"
    plural: ClassVar[str] = "komputerconfigs"
    namespaced: ClassVar[bool] = False
    columns: ClassVar[tuple[PrinterColumn, ...]] = (AGE,)
    ignored_fields: ClassVar[tuple[str, ...]] = ("redis.address", "redis.db", "redis.stream_prefix", "api_url")

    spec: ConfigSpec
    status: ConditionsStatus = Field(default_factory=ConditionsStatus)

    @classmethod
    def understood(cls, manifests: Iterable[Manifest]) -> "list[Config]":
        """Return the configs, each without its invalid values. If `redis` is invalid, it is replaced by an empty
        address: the list of the platform's own Secrets must apply even then."""
        found = []
        for manifest in manifests:
            spec = fields_of(manifest, "spec")
            try:
                config, _ = cls.salvaged(manifest)
            except ValidationError:
                config, _ = cls.salvaged(manifest | {"spec": spec | {"redis": {"address": ""}}})
            found.append(config)
        return found
