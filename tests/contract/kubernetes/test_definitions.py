"""CustomResourceDefinitions: the effect of a schema on objects, and when and where a new kind is known."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from tests.contract.kubernetes.cluster import JSON, TABLE, Api, answered, causes, eventually
from tests.contract.kubernetes.room import CRDS, Room, established
from tests.contract.kubernetes.widgets import definition


def test_missing_fields_get_their_defaults(room: Room) -> None:
    """At every depth at which the parent exists; a missing parent is not created."""
    created = room.create("widgets", room.widget("ada", parts=[{"name": "a"}, {"name": "b", "count": 5}], nested={}))
    assert created["spec"]["size"] == 3
    assert created["spec"]["parts"] == [{"name": "a", "count": 1}, {"name": "b", "count": 5}]
    assert created["spec"]["nested"] == {"depth": 7}
    assert "nested" not in room.create("widgets", room.widget("bob"))["spec"]


def test_a_default_applies_again_when_the_field_is_removed(room: Room) -> None:
    """After its removal, a model or template is the default one again."""
    room.create("widgets", room.widget("ada", size=9))
    assert room.merge("widgets", "ada", {"spec": {"size": None}})["spec"]["size"] == 3


def test_null_counts_as_missing_unless_nullable(room: Room) -> None:
    """Generated clients send null for omitted fields."""
    spec = room.create("widgets", room.widget("ada", size=None, when=None))["spec"]
    assert spec["size"] == 3
    assert spec["when"] is None


def test_unknown_fields_are_dropped(room: Room) -> None:
    """At every depth, except below fields declared as free-form. A field that is not in the schema is never half
    supported."""
    manifest = room.widget("ada", colour="blue", free={"any": {"thing": 1}}, parts=[{"name": "a", "size": 1}])
    created = room.create("widgets", manifest | {"extra": 1})
    assert "extra" not in created
    assert created["spec"] == {
        "color": "red", "size": 3, "free": {"any": {"thing": 1}}, "parts": [{"name": "a", "count": 1}]
    }  # fmt: skip


def test_unknown_metadata_is_dropped(room: Room) -> None:
    """All kinds share the schema of metadata."""
    assert "nonsense" not in room.create("widgets", room.widget("ada", metadata={"nonsense": 1}))["metadata"]


def test_strict_field_validation_refuses_unknown_fields(room: Room) -> None:
    """`fieldValidation=Strict`, which kubectl sends: a typing error in a manifest is an error."""
    answer = room.api.post(room.path("widgets"), room.widget("ada", colour="blue"), fieldValidation="Strict")
    assert 'unknown field "spec.colour"' in answered(answer, 400)["message"]
    assert not room.exists("widgets", "ada")
    answered(room.api.post(room.path("widgets"), room.widget("ada", colour="blue"), fieldValidation="Ignore"), 201)


@pytest.mark.parametrize(
    ("spec", "field", "reason"),
    [
        ({"color": "pink"}, "spec.color", "FieldValueNotSupported"),
        ({"color": None}, "spec.color", "FieldValueRequired"),
        ({"size": 0}, "spec.size", "FieldValueInvalid"),
        ({"size": 101}, "spec.size", "FieldValueInvalid"),
        ({"size": "3"}, "spec.size", "FieldValueTypeInvalid"),
        ({"size": 3.5}, "spec.size", "FieldValueTypeInvalid"),
        ({"ratio": "x"}, "spec.ratio", "FieldValueTypeInvalid"),
        ({"note": "x"}, "spec.note", "FieldValueInvalid"),
        ({"note": "x" * 21}, "spec.note", "FieldValueTooLong"),
        ({"note": "LOUD"}, "spec.note", "FieldValueInvalid"),
        ({"tags": ["a", "b", "c", "d"]}, "spec.tags", "FieldValueTooMany"),
        ({"tags": "a"}, "spec.tags", "FieldValueTypeInvalid"),
        ({"tags": ["a", 5]}, "spec.tags[1]", "FieldValueTypeInvalid"),
        ({"parts": [{"count": 1}]}, "spec.parts[0].name", "FieldValueRequired"),
        ({"env": {"A": 5}}, "spec.env.A", "FieldValueTypeInvalid"),
        ({"limit": True}, "spec.limit", "FieldValueTypeInvalid"),
    ],
    ids=str,
)
def test_a_schema_violation_is_422_with_the_path_of_the_field(room: Room, spec: JSON, field: str, reason: str) -> None:
    """`kubectl apply` refuses what the REST API refuses, and names the field."""
    answer = room.api.post(room.path("widgets"), room.widget("ada", **spec))
    assert causes(answer)[field] == reason
    assert field in answer.json()["message"]


def test_all_faults_are_reported_at_once(room: Room) -> None:
    """A user can fix all errors of a manifest at once."""
    answer = room.api.post(room.path("widgets"), room.widget("ada", size=0, note="LOUD", tags=["a", "b", "c", "d"]))
    assert {"spec.size", "spec.note", "spec.tags"} <= set(causes(answer))


def test_the_spec_can_be_required(room: Room) -> None:
    """An object without a spec has no meaning."""
    manifest = room.widget("ada")
    del manifest["spec"]
    assert causes(room.api.post(room.path("widgets"), manifest))["spec"] == "FieldValueRequired"


@pytest.mark.parametrize("limit", [5, "50%"])
def test_int_or_string_accepts_both(room: Room, limit: int | str) -> None:
    """Used for ports and quantities in pod specs."""
    assert room.create("widgets", room.widget("ada", limit=limit))["spec"]["limit"] == limit


@pytest.mark.parametrize(("sent", "kept"), [(1, 1), (1.5, 1.5), (-0.0001, -0.0001), (10**15, 10**15)])
def test_numbers_are_stored_exactly(room: Room, sent: float, kept: float) -> None:
    """Costs do not change when they are stored."""
    assert room.create("widgets", room.widget("ada", ratio=sent))["spec"]["ratio"] == kept


@pytest.fixture
def short_lived(api: Api) -> Iterator[JSON]:
    """A definition that the test may change and delete: kind Thing, not yet created."""
    group = f"t{uuid4().hex[:8]}.contract.komputer.ai"
    spec = {"type": "object", "properties": {"size": {"type": "integer", "maximum": 5}}}
    thing = definition(
        group, "Thing", schema={"type": "object", "properties": {"spec": spec}}, short_names=(group[:9],)
    )
    yield thing
    api.delete(f"{CRDS}/{thing['metadata']['name']}")


def things(crd: JSON, namespace: str = "default") -> str:
    return f"/apis/{crd['spec']['group']}/v1/namespaces/{namespace}/things"


def thing(crd: JSON, size: int) -> JSON:
    kind = {"apiVersion": f"{crd['spec']['group']}/v1", "kind": "Thing"}
    return {**kind, "metadata": {"name": "ada"}, "spec": {"size": size}}


def test_an_established_kind_is_served_at_once(api: Api, short_lived: JSON) -> None:
    """`up` creates the definitions and continues: once Established, objects can be created and discovery lists the
    kind."""
    answered(api.post(CRDS, short_lived), 201)
    crd = established(api, short_lived["metadata"]["name"])
    answered(api.post(things(crd), thing(crd, 1)), 201)
    assert crd["status"]["acceptedNames"]["kind"] == "Thing"
    assert crd["status"]["storedVersions"] == ["v1"]
    group = crd["spec"]["group"]
    resources = eventually(lambda: api.get(f"/apis/{group}/v1"), lambda r: r.status_code == 200).json()["resources"]
    (resource,) = (r for r in resources if r["name"] == "things")
    assert (resource["kind"], resource["singularName"], resource["namespaced"]) == ("Thing", "thing", True)
    assert resource["shortNames"] == [group[:9]]
    assert {"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"} <= set(resource["verbs"])
    eventually(lambda: answered(api.get("/apis"))["groups"], lambda groups: group in [g["name"] for g in groups])


def test_discovery_lists_the_status_subresource(room: Room) -> None:
    """kubectl and kopf use it to decide where to write a status."""
    all_names = {"widgets", "widgets/status", "gadgets"}
    resources = eventually(
        lambda: answered(room.api.get(f"/apis/{room.group}/v1"))["resources"],
        lambda resources: all_names <= {r["name"] for r in resources},
    )
    assert {r["name"] for r in resources} == all_names
    assert [r["namespaced"] for r in resources if r["name"] == "gadgets"] == [False]
    assert [r["categories"] for r in resources if r["name"] == "widgets"] == [[room.group.split(".")[0]]]


def test_a_changed_schema_applies_to_the_next_write(api: Api, short_lived: JSON) -> None:
    """An upgrade raises a limit by apply; existing objects stay."""
    answered(api.post(CRDS, short_lived), 201)
    crd = established(api, short_lived["metadata"]["name"])
    assert causes(api.post(things(crd), thing(crd, 9)))["spec.size"] == "FieldValueInvalid"
    size = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/size/maximum"
    patch = [{"op": "replace", "path": size, "value": 10}]
    answered(api.patch(f"{CRDS}/{crd['metadata']['name']}", patch, "application/json-patch+json"))
    eventually(lambda: api.post(things(crd), thing(crd, 9)).status_code, lambda code: code == 201)


def test_deleting_a_kind_deletes_its_objects(api: Api, short_lived: JSON) -> None:
    """Its paths are 404 then; if it is created again, it has no objects."""
    answered(api.post(CRDS, short_lived), 201)
    crd = established(api, short_lived["metadata"]["name"])
    answered(api.post(things(crd), thing(crd, 1)), 201)
    answered(api.delete(f"{CRDS}/{crd['metadata']['name']}"))
    eventually(lambda: api.get(f"{CRDS}/{crd['metadata']['name']}").status_code, lambda code: code == 404)
    eventually(lambda: api.get(things(crd)).status_code, lambda code: code == 404)
    answered(api.post(CRDS, short_lived), 201)
    established(api, short_lived["metadata"]["name"])
    assert answered(eventually(lambda: api.get(things(crd)), lambda r: r.status_code == 200))["items"] == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("metadata", "name"), "wrong.example.com"),
        (("spec", "scope"), "Galactic"),
        (("spec", "names", "kind"), "not a kind"),
        (("spec", "names", "plural"), ""),
        (("spec", "versions"), []),
        (("spec", "versions", 0, "schema"), None),
        (("spec", "versions", 0, "storage"), False),
        (("spec", "versions", 0, "schema", "openAPIV3Schema", "properties", "spec"), {"properties": {"a": {}}}),
        (("spec", "versions", 0, "schema", "openAPIV3Schema", "properties", "spec"), {"type": "strange"}),
    ],
    ids=str,
)
def test_an_invalid_definition_is_422(api: Api, short_lived: JSON, path: tuple[Any, ...], value: Any) -> None:
    """An invalid schema is detected when it is applied, not when objects are created."""
    holder: Any = short_lived
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    assert causes(api.post(CRDS, short_lived))


def test_open_api_describes_the_kind(room: Room) -> None:
    """`kubectl explain` and the client-side validation of `kubectl apply` use it: v2 in old versions, v3 in new
    ones."""
    key = ".".join([*reversed(room.group.split(".")), "v1", "Widget"])
    path = f"/openapi/v3/apis/{room.group}/v1"
    schemas = eventually(lambda: room.api.get(path), lambda r: r.status_code == 200).json()["components"]["schemas"]
    index = answered(room.api.get("/openapi/v3"))["paths"]
    assert index[path.removeprefix("/openapi/v3/")]["serverRelativeURL"].startswith(path)

    def described() -> JSON:
        definitions = answered(room.api.get("/openapi/v2"))["definitions"]
        assert isinstance(definitions, dict)
        return definitions

    definitions = eventually(described, lambda definitions: key in definitions)
    for kind in (schemas[key], definitions[key]):
        spec = kind["properties"]["spec"]
        assert spec["description"] == "What the widget is to be."
        assert spec["properties"]["color"]["description"] == "Its only color."
        assert spec["required"] == ["color"]
        (identity,) = kind["x-kubernetes-group-version-kind"]
        assert identity == {"group": room.group, "version": "v1", "kind": "Widget"}


def cells(table: JSON) -> list[dict[str, Any]]:
    names = [column["name"] for column in table["columnDefinitions"]]
    return [dict(zip(names, row["cells"], strict=True)) for row in table["rows"]]


def test_a_table_has_our_columns(room: Room) -> None:
    """Server-side printing: the columns of `kubectl get`, after the name."""
    room.create("widgets", room.widget("ada", size=5, note="hi"))
    room.create("widgets", room.widget("bob"))
    room.merge("widgets", "ada", {"status": {"phase": "Ready"}}, "status")
    table = room.listing("widgets", accept=TABLE)
    assert (table["kind"], table["apiVersion"]) == ("Table", "meta.k8s.io/v1")
    assert [c["name"] for c in table["columnDefinitions"]] == ["Name", "Color", "Size", "Phase", "Note", "Age"]
    assert [c["priority"] for c in table["columnDefinitions"]] == [0, 0, 0, 0, 1, 0]
    ada, bob = cells(table)
    assert (ada["Name"], ada["Color"], ada["Size"], ada["Phase"], ada["Note"]) == ("ada", "red", 5, "Ready", "hi")
    assert (bob["Name"], bob["Phase"], bob["Note"]) == ("bob", None, None)
    assert ada["Age"][-1] == "s"
    assert int(table["metadata"]["resourceVersion"]) > 0


def test_a_row_of_a_table_contains_its_object(room: Room) -> None:
    """With metadata only, unless requested otherwise: kubectl takes names, namespaces and labels from it."""
    created = room.create("widgets", room.widget("ada", labels={"a": "b"}))
    (row,) = room.listing("widgets", accept=TABLE)["rows"]
    assert row["object"]["kind"] == "PartialObjectMetadata"
    assert row["object"]["metadata"]["labels"] == {"a": "b"}
    assert "spec" not in row["object"]
    (row,) = room.listing("widgets", accept=TABLE, includeObject="Object")["rows"]
    assert row["object"] == created
    (row,) = room.listing("widgets", accept=TABLE, includeObject="None")["rows"]
    assert row.get("object") is None


def test_one_object_is_a_table_of_one_row(room: Room) -> None:
    """`kubectl get widget ada`."""
    room.create("widgets", room.widget("ada"))
    assert [row["Name"] for row in cells(answered(room.api.get(room.path("widgets", "ada"), accept=TABLE)))] == ["ada"]


def test_a_watch_can_return_tables(room: Room) -> None:
    """`kubectl get -w`: each event contains a table of one row."""
    with room.api.watch(room.path("widgets"), accept=TABLE) as events:
        room.create("widgets", room.widget("ada"))
        event = next(events)
    assert (event.type, event.object["kind"]) == ("ADDED", "Table")
    assert [row["cells"][0] for row in event.object["rows"]] == ["ada"]


def test_kinds_without_columns_show_name_and_age(room: Room) -> None:
    """kubectl's default columns."""
    table = answered(room.api.get(f"/apis/{room.group}/v1/gadgets", accept=TABLE))
    assert [c["name"] for c in table["columnDefinitions"]] == ["Name", "Age"]


def test_pods_show_ready_and_status(room: Room) -> None:
    """The columns of `kubectl get pods`."""
    room.create("pods", room.pod("web", schedulerName="nobody"))
    (row,) = cells(room.listing("pods", accept=TABLE))
    assert (row["Name"], row["Ready"], row["Status"], row["Restarts"]) == ("web", "0/1", "Pending", 0) or row[
        "Restarts"
    ] == "0"
