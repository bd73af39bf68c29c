"""The processes of a cluster, each with its flags. They run until SIGTERM or SIGINT."""

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from komputer import api, gateway, operator
from komputer.api.middleware import is_loopback
from komputer.bootstrap.api import serve_api
from komputer.bootstrap.gateway import serve_gateway
from komputer.bootstrap.offline_model import serve_offline_model
from komputer.bootstrap.operator import LeaseName, ProbePorts, operate
from komputer.domain import names
from komputer.domain.addresses import AddressRules
from komputer.serve import probe
from komputer.serve.credential import CredentialFile
from komputer.serve.flag_errors import LEASE, PROJECT, REGION
from komputer.serve.settings import Common, Listed, Network, Process, announcement

ANTHROPIC = "https://api.anthropic.com"
MetricsPort = Annotated[int, Field(ge=0, le=65535, description="port of /metrics; 0 takes a free one")]


class _WithConnectors(Common):
    connector_networks: Annotated[tuple[Network, ...], *Listed] = Field(
        (), description="private networks (CIDR, separated by commas) that connectors may use; none: the internet only"
    )

    @property
    def addresses(self) -> AddressRules:
        return AddressRules(networks=self.connector_networks)


class Api(_WithConnectors, cli_prog_name="komputer serve api"):
    """The REST API and its event streams."""

    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    metrics_port: MetricsPort = 9090
    auth: Literal["kubernetes", "none"] = Field(
        "kubernetes", description="access control: bearer tokens and RBAC, or none"
    )
    allow_anonymous_remote: bool = Field(False, description="with --auth none: also for callers on other machines")
    allowed_origins: Annotated[tuple[str, ...], *Listed] = Field(
        (), description="origins of web pages that may call, separated by commas, such as https://dashboard.example.com"
    )
    requests_per_second: int = Field(100, ge=0, description="limit of one caller in one process; 0: no limit")
    token_audiences: Annotated[tuple[str, ...], *Listed] = Field(
        (), description="audiences of callers' tokens, separated by commas; none: the Kubernetes API's own"
    )
    default_namespace: str = Field(names.DEFAULT_NAMESPACE, description="namespace of calls that name none")
    create_namespaces: bool = Field(False, description="create a missing namespace, instead of refusing the call")
    compat_create_status: Annotated[int, Field(ge=200, le=202)] | None = Field(
        None, description="HTTP status of every accepted POST /agents; published SDKs expect 200"
    )

    @model_validator(mode="after")
    def _is_guarded(self) -> "Api":
        if self.auth == "none" and not is_loopback(self.host) and not self.allow_anonymous_remote:
            raise ValueError(
                f"--auth none on {self.host} would let everybody who reaches it do everything; use --auth kubernetes, "
                "or add --allow-anonymous-remote if a proxy in front of it controls access"
            )
        return self

    async def run(self) -> None:
        settings = api.ApiSettings(
            default_namespace=self.default_namespace,
            create_status=self.compat_create_status,
            addresses=self.addresses,
            namespaces=self.scope,
            auth=self.auth,
            token_audiences=self.token_audiences,
            allowed_origins=self.allowed_origins,
            requests_per_second=self.requests_per_second or None,
            audits=True,
            makes_namespaces=self.create_namespaces,
            loopback_only=self.auth == "none" and not self.allow_anonymous_remote,
        )
        self.log_to_stderr()
        await serve_api(settings, self.backends, self.endpoint())


class GatewayCommand(_WithConnectors, cli_prog_name="komputer serve gateway"):
    """The server of agents' pods: assignments, events, and a proxy to the model and to MCP servers, which adds
    credentials."""

    port: Annotated[int, Field(ge=0, le=65535)] = 8081
    metrics_port: MetricsPort = 9091
    model_base_url: str = Field(
        "",
        description="base URL of the model, before /v1/messages; default: Anthropic, Bedrock or Vertex AI",
    )
    bedrock_region: Annotated[str, Field(pattern=REGION)] | None = Field(
        None, description="Claude in Amazon Bedrock, with --api-key-file for a Bedrock API key"
    )
    vertex_project: Annotated[str, Field(pattern=PROJECT)] | None = Field(
        None, description="Claude on Google Cloud's Vertex AI, with the pod's identity or --google-key-file"
    )
    vertex_region: Annotated[str, Field(pattern=REGION)] = Field("global", description="region of --vertex-project")
    google_key_file: Path | None = Field(None, description="key of a service account; read for each new token")
    api_key_file: Path | None = Field(
        None,
        description="key of the model, sent as x-api-key (to Bedrock as bearer token); read again after a rotation",
    )
    auth_token_file: Path | None = Field(None, description="token of the model, sent as Authorization: Bearer")

    @model_validator(mode="after")
    def _knows_the_model(self) -> "GatewayCommand":
        if self.bedrock_region and self.vertex_project:
            raise ValueError("give --bedrock-region or --vertex-project, not both")
        if self.api_key_file and self.auth_token_file:
            raise ValueError("give --api-key-file or --auth-token-file, not both")
        if self.vertex_project:
            if self.api_key_file or self.auth_token_file:
                raise ValueError("Vertex AI takes the pod's identity or --google-key-file, no other credential")
        elif self.google_key_file:
            raise ValueError("--google-key-file is for Vertex AI: give --vertex-project too")
        elif not (self.api_key_file or self.auth_token_file or self.model_base_url):
            raise ValueError(
                "the model has no credential: give --api-key-file or --auth-token-file, or another --model-base-url"
            )
        return self

    @property
    def vertex(self) -> gateway.Vertex | None:
        return gateway.Vertex(self.vertex_project, self.vertex_region) if self.vertex_project else None

    @property
    def address(self) -> str:
        """The base URL of the model: `/v1/messages` is appended to it."""
        if self.model_base_url:
            return self.model_base_url
        if self.bedrock_region:
            return f"https://bedrock-mantle.{self.bedrock_region}.api.aws/anthropic"
        return self.vertex.base_url if self.vertex else ANTHROPIC

    def credential(self) -> gateway.Credentials:
        """Raises `Invalid` (`model_credential`)."""
        if self.vertex:
            from komputer.serve.google import GoogleToken  # takes 0.13 s to import

            return GoogleToken(self.google_key_file)
        if self.api_key_file:  # Bedrock's API keys are bearer tokens, as in Anthropic's own client
            return CredentialFile(self.api_key_file, "bearer" if self.bedrock_region else "api_key")
        return CredentialFile(self.auth_token_file, "bearer") if self.auth_token_file else gateway.always(None)

    async def run(self) -> None:
        """Raises `Invalid` (`model_credential`)."""
        settings = gateway.GatewaySettings(
            model_base_url=self.address,
            model_credential=self.credential(),
            vertex=self.vertex,
            addresses=self.addresses,
            namespaces=self.scope,
        )
        self.log_to_stderr()
        await serve_gateway(settings, self.backends, self.endpoint())


class Probe(GatewayCommand, cli_prog_name="komputer serve probe"):
    """Print as JSON whether Redis and the model can be reached from here, and exit."""

    async def run(self) -> None:
        self.log_to_stderr()
        async with self.backends.connected() as (_, log):
            found = {
                "redis": await probe.redis(log),
                "model": await probe.model(self.address, self.vertex, self.credential()),
            }
        print(json.dumps(found))


class Operator(Common, cli_prog_name="komputer serve operator"):
    """The controller of agents: it creates their pods and disks, and writes their status."""

    port: Annotated[int, Field(ge=0, le=65535, description="port of /healthz and /readyz")] = 8082
    metrics_port: MetricsPort = 9092
    lease: Annotated[str, Field(pattern=LEASE)] = Field(
        "",
        description="namespace/name of the Lease by which operators choose a leader; none: this one leads",
    )

    async def run(self) -> None:
        settings = operator.OperatorSettings(namespaces=self.scope)
        self.log_to_stderr()
        health = self.listen()
        await operate(
            settings,
            self.backends,
            announcement(health),
            ports=ProbePorts(health, self.listen("metrics_port")),
            lease=LeaseName(*self.lease.split("/")) if self.lease else None,
        )


class OfflineModel(Process, cli_prog_name="komputer serve offline-model"):
    """A stand-in for the model, to try or test the platform without a key."""

    port: Annotated[int, Field(ge=0, le=65535)] = 8099

    async def run(self) -> None:
        self.log_to_stderr()
        await serve_offline_model(self.endpoint())
