"""KomputerConnector: an MCP server that agents may use, and the credential for it."""

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from komputer.domain import names
from komputer.domain.base import (
    AGE,
    Condition,
    Int32,
    Int64,
    Manifest,
    PrinterColumn,
    Resource,
    WireModel,
    fields_of,
    texts_in,
)
from komputer.domain.ref import ObjectRef

AuthType = Literal["token", "oauth", "header", "none"]
DEFAULT_KEY: Final = "token"
"""The key in the Secret's data that holds the credential, if the connector names none."""
CLAUDE_NAMES: Final = frozenset(
    {
        "ccr-email",
        "claude-code-remote",
        "claude-device",
        "claude-in-chrome",
        "computer-use",
        "ide",
        "remote-devices",
        "workspace",
    }
)
"""Names of MCP servers that are part of Claude Code 2.1. It does not load another server of such a name, or hides its
tools."""
RESERVED_NAMES: Final = CLAUDE_NAMES | {"komputer"}
"""Names that no connector may have. `komputer` would hide a manager's own tools."""
SERVICE: Final = r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"
HEADER: Final = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$"
URL_LIMIT: Final = 2048

_HEADERS_OF_OURS: Final = frozenset(
    {
        "accept",
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "last-event-id",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


class ConnectorSecretRef(WireModel):
    """A key of a Secret of the connector's own namespace."""

    name: Annotated[str, Field(description="Name of the Secret.", max_length=253)]
    key: Annotated[str, Field(description="Key in the Secret's data.", max_length=253)]
    optional: Annotated[
        bool | None, Field(description="Whether the server is called without a credential where the Secret is missing.")
    ] = None


class ConnectorSpec(WireModel):
    """Where the server is, and which credential the gateway adds. The credential itself stands in a Secret."""

    type: Annotated[Literal["remote"], Field(description="How the server is reached: remote, by streamable HTTP.")] = (
        "remote"
    )
    service: Annotated[str, Field(pattern=SERVICE, description="What it is: github, slack, custom.")]
    url: Annotated[
        str, Field(min_length=1, max_length=URL_LIMIT, description="Address of the server's streamable HTTP endpoint.")
    ]
    display_name: Annotated[
        str | None, Field(description="What people call it; without it the connector's name.", max_length=256)
    ] = None
    auth_type: Annotated[
        AuthType,
        Field(description="token: `Authorization: Bearer`; header: as headerName; none. oauth has no effect yet."),
    ] = "token"
    header_name: Annotated[
        str | None,
        Field(pattern=HEADER, description="Name of the header that carries the credential, with authType header."),
    ] = None
    auth_secret_key_ref: Annotated[ConnectorSecretRef | None, Field(description="Where the credential is kept.")] = None
    disabled: Annotated[bool, Field(description="No agent can use it until this is false.")] = False


class ConnectorStatus(WireModel):
    """The observed state. Only the operator writes it."""

    attached_agents: Annotated[Int32 | None, Field(description="How many agents name the connector.")] = None
    agent_names: Annotated[list[str], Field(description="Names of the agents that name the connector.")] = Field(
        default_factory=list
    )
    observed_generation: Annotated[
        Int64 | None, Field(description="metadata.generation that the operator last acted on.")
    ] = None
    conditions: Annotated[
        list[Condition],
        Field(
            description="What holds for the connector now, and why; one entry of each type.",
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        ),
    ] = Field(default_factory=list)


class Connector(Resource):
    """An MCP server that agents of its namespace may use; the gateway adds the credential."""

    kind_name: ClassVar[str] = "KomputerConnector"
    plural: ClassVar[str] = "komputerconnectors"
    columns: ClassVar[tuple[PrinterColumn, ...]] = (
        PrinterColumn(name="Service", type="string", json_path=".spec.service"),
        PrinterColumn(name="URL", type="string", json_path=".spec.url"),
        PrinterColumn(name="Agents", type="integer", json_path=".status.attachedAgents"),
        AGE,
    )

    spec: ConnectorSpec
    status: ConnectorStatus = Field(default_factory=ConnectorStatus)


def is_connector_name(name: str) -> bool:
    """Return whether this can be the name of a connector: the syntax is that of agents' names, because it becomes a
    part of the names of tools (`mcp__<name>__<tool>`), and some names are reserved."""
    return names.is_agent_name(name) and name not in RESERVED_NAMES


def may_be_set(header: str) -> bool:
    """Return whether a credential may be sent in this header. Headers of HTTP and MCP themselves are reserved."""
    name = header.lower()
    return re.fullmatch(HEADER, header) is not None and name not in _HEADERS_OF_OURS and not name.startswith("mcp-")


def attached(agents: Iterable[Manifest]) -> dict[ObjectRef, list[str]]:
    """Return the sorted names of the agents whose spec names a connector, by connector. Terminating agents are left
    out."""
    found: dict[ObjectRef, list[str]] = {}
    for agent in agents:
        metadata = agent["metadata"]
        if metadata.get("deletionTimestamp"):
            continue
        for name in dict.fromkeys(texts_in(fields_of(agent, "spec").get("connectors"))):
            found.setdefault(ObjectRef(metadata["namespace"], name), []).append(metadata["name"])
    return {ref: sorted(who) for ref, who in found.items()}


def missing(wanted: Iterable[str], there: Mapping[str, Connector | None]) -> list[str]:
    """Return a reason for each connector that an agent names and cannot use."""
    told = []
    for name in wanted:
        connector = there.get(name)
        if connector is None:
            told.append(f"there is no connector {name!r}")
        elif connector.spec.disabled:
            told.append(f"connector {name!r} is disabled")
    return told
