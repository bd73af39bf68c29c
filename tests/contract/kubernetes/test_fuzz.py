"""Any input gets an answer that is not a 5xx, and the server keeps running.

A real API server answers 500, or closes the connection, in a few cases: a resourceVersion that is no number or is set
on a new object, a JSON patch of the whole document (path ""), invalid options of a deletion. None of our programs sends
them; they are not generated here.
"""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.contract.kubernetes.cluster import JSON_PATCH, MERGE, STRATEGIC, answered
from tests.contract.kubernetes.room import CRDS, Room

bounded = settings(
    max_examples=60,
    deadline=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

FIELDS = """
    metadata name namespace labels annotations finalizers ownerReferences generateName uid spec status kind
    apiVersion color size note tags parts env limit free when nested containers volumes data stringData image
    command items template deletionTimestamp involvedObject audiences boundObjectRef token holderIdentity
    renewTime
""".split()  # noqa: SIM905

texts = st.one_of(st.text(max_size=12), st.sampled_from(["red", "a", "", "v1", "Pod", "ada", "\u0000", "../x", "{}"]))
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False), texts
)
keys = st.one_of(st.sampled_from(FIELDS), st.text(max_size=8))
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=5), max_leaves=20
)
objects = st.dictionaries(keys, values, max_size=6)


def fine(response: Any) -> None:
    assert response.status_code < 500, (
        f"{response.request.method} {response.url} {response.request.content!r} → {response.text}"
    )


def paths(room: Room) -> list[str]:
    plurals = (
        "widgets",
        "configmaps",
        "pods",
        "secrets",
        "events",
        "serviceaccounts",
        "leases",
        "persistentvolumeclaims",
    )
    reviews = [
        "/apis/authentication.k8s.io/v1/tokenreviews",
        "/apis/authorization.k8s.io/v1/subjectaccessreviews",
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
    ]
    return [*(room.path(plural) for plural in plurals), CRDS, "/api/v1/namespaces", *reviews]


@bounded
@given(data=st.data())
def test_any_json_may_be_posted(room: Room, data: st.DataObject) -> None:
    """To any collection: arbitrary JSON, and manifests with one arbitrary part."""
    path = data.draw(st.sampled_from(paths(room)))
    fine(room.api.post(path, data.draw(values)))
    manifest: Any = room.widget("fuzz")
    manifest |= data.draw(objects)
    if isinstance(manifest.get("metadata"), dict):
        manifest["metadata"] |= {k: v for k, v in data.draw(objects).items() if k != "resourceVersion"}
    if isinstance(manifest.get("spec"), dict):
        manifest["spec"] |= data.draw(objects)
    fine(room.api.post(room.path("widgets"), manifest))
    room.api.delete(room.path("widgets", "fuzz"))


@bounded
@given(schema=values, column=objects)
def test_any_schema_may_be_posted(room: Room, schema: Any, column: dict[str, Any]) -> None:
    """A definition with an arbitrary schema, names or columns is refused or works."""
    group = f"f.{room.group}"
    body = {"type": "object", "properties": {"spec": schema}}
    names = {"kind": "Odd", "plural": "odds", "singular": "odd", "listKind": "OddList"}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": body}}
    version |= {"additionalPrinterColumns": [column]} if column else {}
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"odds.{group}"},
    }
    fine(
        room.api.post(
            CRDS, crd | {"spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [version]}}
        )
    )
    fine(room.api.get("/apis"))
    room.api.delete(f"{CRDS}/odds.{group}")


@bounded
@given(data=st.data())
def test_any_patch_may_be_sent(room: Room, data: st.DataObject) -> None:
    """Every type of patch, to the object and to its status."""
    room.api.post(room.path("widgets"), room.widget("fuzz", free={"a": {"b": [1, 2]}}))
    room.api.post(room.path("configmaps"), room.config_map("fuzz", {"a": "1"}))
    path = data.draw(
        st.sampled_from(
            [room.path("widgets", "fuzz"), room.path("widgets", "fuzz", "status"), room.path("configmaps", "fuzz")]
        )
    )
    known = [
        "/",
        "/spec",
        "/spec/free/a/b/0",
        "/spec/tags/-",
        "/metadata",
        "/metadata/labels/x",
        "/~2",
        "/spec/free/a/b/-1",
    ]
    pointer = st.text(min_size=1, max_size=8) | st.sampled_from(known)
    step = st.fixed_dictionaries(
        {"op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test", "x"]), "path": pointer},
        optional={"value": values, "from": pointer},
    )
    fine(room.api.patch(path, data.draw(st.lists(step, max_size=4)), JSON_PATCH))
    fine(room.api.patch(path, data.draw(values), JSON_PATCH))
    fine(room.api.patch(path, data.draw(values), MERGE))
    fine(room.api.patch(path, {"spec": data.draw(objects), "status": data.draw(objects)}, MERGE))
    fine(room.api.patch(path, data.draw(values), STRATEGIC))


@bounded
@given(data=st.data())
def test_any_query_may_be_sent(room: Room, data: st.DataObject) -> None:
    """Selectors, limits, continue tokens, media types."""
    names = "labelSelector fieldSelector limit continue pretty resourceVersionMatch timeoutSeconds dryRun".split()  # noqa: SIM905
    params = data.draw(
        st.dictionaries(st.sampled_from(names), texts | st.integers(-(2**65), 2**65).map(str), max_size=4)
    )
    fine(room.api.get(data.draw(st.sampled_from(paths(room)[:10])), **params))
    fine(room.api.delete(room.path("configmaps", "nobody"), **params))


@bounded
@given(
    path=st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), max_size=20),
    method=st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]),
)
def test_any_path_may_be_requested(room: Room, path: str, method: str) -> None:
    """Paths inside and outside of the API."""
    for prefix in ("/", "/api/", "/apis/", f"/apis/{room.group}/v1/", room.path("widgets") + "/"):
        fine(room.api.request(method, prefix + path.replace("?", "").replace("#", "")))


@pytest.mark.parametrize("depth", [500, 20_000])
def test_deeply_nested_bodies_do_no_harm(room: Room, depth: int) -> None:
    """Refused or stored; the server keeps running."""
    deep = b'{"a":' * depth + b"1" + b"}" * depth
    manifest = json.dumps(room.widget("deep", free={"x": 1})).encode().replace(b'{"x": 1}', deep)
    fine(room.api.post(room.path("widgets"), manifest))
    fine(room.api.patch(room.path("configmaps", "nobody"), deep, MERGE))
    answered(room.api.get("/api/v1/namespaces"))
