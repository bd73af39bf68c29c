"""What is refused, and how: names, labels, bodies, addresses. The caller's fault is never a 5xx."""

from typing import Any

import pytest

from tests.contract.kubernetes.cluster import Api, causes, refused
from tests.contract.kubernetes.room import NAMESPACES, Room


@pytest.mark.parametrize("name", ["Ada", "a_b", "-a", "a-", "a..b", "a b", "ä", "a" * 254, "a/b", ".", ".."])
def test_a_name_that_cannot_be_in_an_address_is_422(room: Room, name: str) -> None:
    """DNS names, at most 253 characters."""
    assert causes(room.api.post(room.path("widgets"), room.widget(name)))["metadata.name"] == "FieldValueInvalid"
    assert causes(room.api.post(room.path("configmaps"), room.config_map(name)))["metadata.name"] == "FieldValueInvalid"


@pytest.mark.parametrize("name", ["a", "a.b", "a-b", "0", "a" * 253])
def test_a_good_name_is_taken(room: Room, name: str) -> None:
    """The edges of the rule, from inside."""
    assert room.create("widgets", room.widget(name)) == room.read("widgets", name)


@pytest.mark.parametrize("name", ["Ada", "a.b", "a" * 64, "-a"])
def test_a_namespace_is_one_label_of_a_dns_name(api: Api, name: str) -> None:
    """At most 63 characters, no dots."""
    assert causes(api.post(NAMESPACES, {"metadata": {"name": name}}))["metadata.name"] == "FieldValueInvalid"


@pytest.mark.parametrize("body", [{}, {"metadata": {}}, {"metadata": {"labels": {"a": "b"}}}])
def test_a_name_is_required(room: Room, body: dict[str, Any]) -> None:
    """Unless one is to be generated."""
    assert causes(room.api.post(room.path("configmaps"), body)) == {"metadata.name": "FieldValueRequired"}


@pytest.mark.parametrize("plural", ["widgets", "configmaps"])
@pytest.mark.parametrize(
    "labels",
    [{"a b": "x"}, {"": "x"}, {"/a": "x"}, {"a/b/c": "x"}, {"a": "b c"}, {"a": "-"}, {"a": "x" * 64}, {"x" * 64: "a"}],
    ids=lambda labels: next(iter(labels.items()))[0][:5],
)
def test_a_label_that_cannot_be_selected_is_422(room: Room, plural: str, labels: dict[str, str]) -> None:
    """Values have at most 63 characters: a name of an agent fits, its instructions do not."""
    manifest = room.widget("ada", labels=labels) if plural == "widgets" else room.config_map("ada", labels=labels)
    assert set(causes(room.api.post(room.path(plural), manifest))) == {"metadata.labels"}


@pytest.mark.parametrize("plural", ["widgets", "configmaps"])
@pytest.mark.parametrize("field", ["labels", "annotations"])
def test_labels_and_annotations_are_texts(room: Room, plural: str, field: str) -> None:
    """A number or an object in their place is refused, not turned into text."""
    for value in (5, True, {"x": "y"}, ["x"]):
        manifest = room.widget("ada") if plural == "widgets" else room.config_map("ada")
        manifest["metadata"][field] = {"a": value}
        assert room.api.post(room.path(plural), manifest).status_code in (400, 422)
    assert not room.exists(plural, "ada")


def test_annotations_have_a_limit(room: Room) -> None:
    """256 KiB for all of them together: why kopf keeps no copy of our objects there, and texts are no annotations."""
    annotations = {"a": "x" * 262144}
    found = causes(room.api.post(room.path("configmaps"), room.config_map("ada", annotations=annotations)))
    assert found == {"metadata.annotations": "FieldValueTooLong"}
    room.create("configmaps", room.config_map("ada", annotations={"a": "x" * 262000}))


def test_a_config_map_has_a_limit(room: Room) -> None:
    """1 MiB."""
    refused(room.api.post(room.path("configmaps"), room.config_map("ada", {"x": "x" * 1100000})), 422, "Invalid")


def test_a_body_has_a_limit(room: Room) -> None:
    """3 MiB and a bit, refused before it is read as JSON."""
    refused(room.api.post(room.path("widgets"), b"{" + b" " * 4_000_000), 413, "RequestEntityTooLarge")


@pytest.mark.parametrize("plural", ["widgets", "configmaps"])
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"5", b"\xff\xfe", b"nonsense", b"{}{}"], ids=repr)
def test_a_body_that_is_no_object_is_400(room: Room, plural: str, body: bytes) -> None:
    """With a Status, as every refusal."""
    refused(room.api.post(room.path(plural), body), 400, "BadRequest")


@pytest.mark.parametrize(
    "metadata",
    [{"name": 5}, {"name": ["a"]}, {"labels": "x"}, {"annotations": []}, {"finalizers": "x"}, {"ownerReferences": {}}],
    ids=str,
)
def test_metadata_of_a_wrong_type_is_refused(room: Room, metadata: dict[str, Any]) -> None:
    """Whatever the kind."""
    for plural in ("widgets", "configmaps"):
        manifest = room.widget("ada") if plural == "widgets" else room.config_map("ada")
        manifest["metadata"] |= metadata
        assert room.api.post(room.path(plural), manifest).status_code in (400, 422)


def test_a_body_in_another_language_is_415(room: Room) -> None:
    """Never guessed."""
    answer = room.api.post(room.path("configmaps"), b"x=1", content_type="application/x-www-form-urlencoded")
    refused(answer, 415, "UnsupportedMediaType")


def test_an_answer_in_another_language_is_406(room: Room) -> None:
    """JSON is what there is."""
    refused(room.api.get(room.path("configmaps"), accept="image/png"), 406, "NotAcceptable")


@pytest.mark.parametrize("path", ["/nothing", "/api/v2", "/apis/no.such.group/v1/things", "/api/v1/nothing"])
def test_an_address_that_does_not_exist_is_404(api: Api, path: str) -> None:
    """As for kinds that nothing of ours uses."""
    assert api.get(path).status_code == 404


def test_a_finalizer_has_a_qualified_name(room: Room) -> None:
    """`domain/name`."""
    answer = room.api.post(room.path("widgets"), room.widget("ada", metadata={"finalizers": ["not a name"]}))
    assert "metadata.finalizers" in causes(answer)
