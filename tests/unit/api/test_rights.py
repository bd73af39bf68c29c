"""No operation without a right: the table and the app's routes say the same."""

from fastapi.routing import APIRoute, APIWebSocketRoute

from komputer.api.app import ROUTERS
from komputer.api.rights import NEEDS
from komputer.api.routes import health, streams
from komputer.kube import AGENTS
from komputer.services.access import AccessRequest

OPEN = {"healthz", "readyz"}
"""They say nothing about anything of anybody's."""
VERBS = {"get", "list", "watch", "create", "update", "delete"}


def operations() -> set[str]:
    routes = [route for router in (*ROUTERS, streams.sockets, health.router) for route in router.routes]
    found = {route.operation_id or route.name for route in routes if isinstance(route, APIRoute)}
    return found | {route.name for route in routes if isinstance(route, APIWebSocketRoute)}


def test_every_operation_has_its_right_and_every_right_its_operation() -> None:
    assert operations() - OPEN == NEEDS.keys()


def test_a_body_that_may_name_the_namespace_is_one_that_the_right_looks_into() -> None:
    routes = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    bodies = {route.operation_id: route.body_field.field_info.annotation for route in routes if route.body_field}
    naming = {name for name, body in bodies.items() if "namespace" in getattr(body, "model_fields", ())}
    assert naming == {name for name, need in NEEDS.items() if need.in_body}


def test_rights_are_those_that_rbac_knows() -> None:
    assert {need.verb for need in NEEDS.values()} <= VERBS
    assert {need.subresource for need in NEEDS.values()} == {None, "cancel", "events"}


def test_a_missing_right_is_told_as_rbac_writes_it() -> None:
    assert (
        AccessRequest("create", AGENTS, "team", "ada", "cancel").text
        == "create komputeragents/cancel in namespace team"
    )
    assert AccessRequest("list", AGENTS).text == "list komputeragents in all namespaces"
