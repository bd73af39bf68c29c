"""The representation of a connector for clients. Pure. Of a Secret it shows only the name and the key."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from komputer.domain.base import WireModel
from komputer.domain.connector import Connector
from komputer.redis.connector_health import HealthRecord


class Health(WireModel):
    """The result of the latest call of the connector's server."""

    state: Annotated[
        str, Field(description="ok, failed, or unknown if no call was made since the connector last changed.")
    ]
    at: str | None = None
    code: str | None = None
    reason: str | None = None


class ConnectorView(WireModel):
    """A connector as of now, with the agents that name it."""

    name: str
    namespace: str
    service: str
    display_name: str
    url: str
    type: str
    auth_type: str
    header_name: str | None = None
    auth_secret_name: str | None = None
    auth_secret_key: str | None = None
    disabled: bool
    attached_agents: int
    agent_names: list[str]
    created_at: str
    health: Health


def connector_view(connector: Connector, agents: Sequence[str], health: HealthRecord | None) -> ConnectorView:
    """Return the view of a connector. `agents` are the names of those that use it."""
    metadata, spec, ref = connector.metadata, connector.spec, connector.spec.auth_secret_key_ref
    return ConnectorView(
        name=metadata.name,
        namespace=metadata.namespace or "",
        service=spec.service,
        display_name=spec.display_name or metadata.name,
        url=spec.url,
        type=spec.type,
        auth_type=spec.auth_type,
        header_name=spec.header_name,
        auth_secret_name=ref.name if ref else None,
        auth_secret_key=ref.key if ref else None,
        disabled=spec.disabled,
        attached_agents=len(agents),
        agent_names=list(agents),
        created_at=metadata.creation_timestamp or "",
        health=health_view(health),
    )


def health_view(record: HealthRecord | None) -> Health:
    """Return the health in a record; `unknown` without a record."""
    if record is None:
        return Health(state="unknown")
    return Health(state=record.state, at=record.at or None, code=record.code or None, reason=record.reason or None)
