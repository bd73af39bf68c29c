"""Which right each operation needs. An operation that does not stand here is refused: see `test_rights.py`."""

from typing import Final, NamedTuple

from komputer.kube import AGENTS, CONNECTORS, NAMESPACES, SECRETS, TEMPLATES, Kind


class Need(NamedTuple):
    """`scope` says where: `one` is the object in the path, `named` the object that the body names (`update` is needed
    if it exists), `namespace` one namespace, `all` one namespace or all of them (objects that the caller may not see
    are left out), `anybody` every caller with a valid token. The namespace is the query's, or with `in_body` the body's
    where that names one."""

    verb: str
    kind: Kind
    scope: str
    subresource: str | None = None
    in_body: bool = False


NEEDS: Final[dict[str, Need]] = {
    "create_agent": Need("create", AGENTS, "named", in_body=True),
    "list_agents": Need("list", AGENTS, "all"),
    "get_agent": Need("get", AGENTS, "one"),
    "patch_agent": Need("update", AGENTS, "one"),
    "delete_agent": Need("delete", AGENTS, "one"),
    "cancel_agent_task": Need("create", AGENTS, "one", "cancel"),
    "send_agent_message": Need("update", AGENTS, "one"),
    "compact_agent": Need("update", AGENTS, "one"),
    "get_agent_events": Need("get", AGENTS, "one", "events"),
    "get_agent_cost_breakdown": Need("get", AGENTS, "one", "events"),
    "follow_agent": Need("watch", AGENTS, "one", "events"),
    "watch_agent": Need("watch", AGENTS, "one", "events"),
    "follow_all": Need("watch", AGENTS, "all", "events"),
    "create_connector": Need("create", CONNECTORS, "namespace", in_body=True),
    "list_connectors": Need("list", CONNECTORS, "all"),
    "get_connector": Need("get", CONNECTORS, "one"),
    "update_connector": Need("update", CONNECTORS, "one", in_body=True),
    "delete_connector": Need("delete", CONNECTORS, "one"),
    "list_connector_tools": Need("get", CONNECTORS, "one"),
    "list_connector_templates": Need("list", CONNECTORS, "anybody"),
    "create_secret": Need("create", SECRETS, "namespace", in_body=True),
    "list_secrets": Need("list", SECRETS, "all"),
    "update_secret": Need("update", SECRETS, "one", in_body=True),
    "delete_secret": Need("delete", SECRETS, "one"),
    "list_namespaces": Need("list", NAMESPACES, "all"),
    "list_templates": Need("list", TEMPLATES, "namespace"),
}
