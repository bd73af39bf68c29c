"""How a connector looks to clients. Pure. Nothing of a Secret is in it but its name and key."""

from collections.abc import Sequence
from typing import Any

from komputer.domain.connector import Connector
from komputer.redis.connector_health import HealthRecord


def connector_body(connector: Connector, agents: Sequence[str], seen: HealthRecord | None) -> dict[str, Any]:
    """ConnectorResponse. `agents` are those that name it now; fields without a value are left out."""
    spec, ref = connector.spec, connector.spec.auth_secret_key_ref
    body: dict[str, Any] = {
        "name": connector.metadata.name,
        "namespace": connector.metadata.namespace,
        "service": spec.service,
        "displayName": spec.display_name or connector.metadata.name,
        "url": spec.url,
        "type": spec.type,
        "authType": spec.auth_type,
        "headerName": spec.header_name,
        "authSecretName": ref.name if ref else None,
        "authSecretKey": ref.key if ref else None,
        "disabled": spec.disabled,
        "attachedAgents": len(agents),
        "agentNames": list(agents),
        "createdAt": connector.metadata.creation_timestamp,
        "health": health_body(seen),
    }
    return {field: value for field, value in body.items() if value is not None}


def health_body(seen: HealthRecord | None) -> dict[str, str]:
    """`state` is ok, failed, or unknown where nobody has called the server since the connector last changed."""
    if seen is None:
        return {"state": "unknown"}
    told = {"state": seen.state, "at": seen.at, "code": seen.code, "reason": seen.reason}
    return {field: text for field, text in told.items() if text}
