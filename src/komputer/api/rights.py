"""The right that each operation needs. Operations that are not listed are refused; `test_rights.py` finds them."""

from enum import Enum
from typing import Final, NamedTuple

from komputer.kube import AGENTS, CONNECTORS, NAMESPACES, SECRETS, TEMPLATES, Kind


class Reach(Enum):
    """The objects that an operation is about."""

    OBJECT = "object"
    """The object that the path names."""
    NAMED_IN_BODY = "named in body"
    """The object that the body names: `update` of it if it exists, else `verb` in the namespace."""
    NAMESPACE = "namespace"
    """The objects of one namespace; without one in the request, of the default namespace."""
    ANY_NAMESPACE = "any namespace"
    """The objects of the namespace that the request names. Without one, of all namespaces: the operation then leaves
    out what the caller may not see."""
    NONE = "none"
    """No objects: every authenticated caller may call it."""


class Need(NamedTuple):
    """The right that an operation needs: `verb` on the objects of `kind` that `reach` selects.

    The namespace is that of the query. With `in_body` it is that of the body, if the body names one.
    """

    verb: str
    kind: Kind
    reach: Reach
    subresource: str | None = None
    in_body: bool = False


NEEDS: Final[dict[str, Need]] = {
    "create_agent": Need("create", AGENTS, Reach.NAMED_IN_BODY, in_body=True),
    "list_agents": Need("list", AGENTS, Reach.ANY_NAMESPACE),
    "get_agent": Need("get", AGENTS, Reach.OBJECT),
    "patch_agent": Need("update", AGENTS, Reach.OBJECT),
    "delete_agent": Need("delete", AGENTS, Reach.OBJECT),
    "cancel_agent_task": Need("create", AGENTS, Reach.OBJECT, "cancel"),
    "send_agent_message": Need("update", AGENTS, Reach.OBJECT),
    "compact_agent": Need("update", AGENTS, Reach.OBJECT),
    "get_agent_events": Need("get", AGENTS, Reach.OBJECT, "events"),
    "get_agent_cost_breakdown": Need("get", AGENTS, Reach.OBJECT, "events"),
    "follow_agent": Need("watch", AGENTS, Reach.OBJECT, "events"),
    "watch_agent": Need("watch", AGENTS, Reach.OBJECT, "events"),
    "follow_all": Need("watch", AGENTS, Reach.ANY_NAMESPACE, "events"),
    "create_connector": Need("create", CONNECTORS, Reach.NAMESPACE, in_body=True),
    "list_connectors": Need("list", CONNECTORS, Reach.ANY_NAMESPACE),
    "get_connector": Need("get", CONNECTORS, Reach.OBJECT),
    "update_connector": Need("update", CONNECTORS, Reach.OBJECT, in_body=True),
    "delete_connector": Need("delete", CONNECTORS, Reach.OBJECT),
    "list_connector_tools": Need("get", CONNECTORS, Reach.OBJECT),
    "list_connector_templates": Need("list", CONNECTORS, Reach.NONE),
    "create_secret": Need("create", SECRETS, Reach.NAMESPACE, in_body=True),
    "list_secrets": Need("list", SECRETS, Reach.ANY_NAMESPACE),
    "update_secret": Need("update", SECRETS, Reach.OBJECT, in_body=True),
    "delete_secret": Need("delete", SECRETS, Reach.OBJECT),
    "list_namespaces": Need("list", NAMESPACES, Reach.ANY_NAMESPACE),
    "list_templates": Need("list", TEMPLATES, Reach.NAMESPACE),
}
