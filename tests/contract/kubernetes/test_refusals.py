"""Refusals: names, labels, bodies, paths. A client's error is never a 5xx."""

from typing import Any

import pytest

from tests.contract.kubernetes.cluster import Api, causes, refused
from tests.contract.kubernetes.room import NAMESPACES, Room


@pytest.mark.parametrize("name", ["Ada", "a_b", "-a", "a-", "a..b", "a b", "ä", "a" * 254, "a/b", ".", ".."])
def test_an_invalid_name_is_422(room: Room, name: str) -> None:
    """Names are DNS names of at most 253 characters."""
    assert causes(room.api.post(room.path("widgets"), room.widget(name)))["metadata.name"] == "FieldValueInvalid"
    assert causes(room.api.post(room.path("configmaps"), room.config_map(name)))["metadata.name"] == "FieldValueInvalid"


@pytest.mark.parametrize("name", ["a", "a.b", "a-b", "0", "a" * 253])
def test_a_valid_name_is_accepted(room: Room, name: str) -> None:
    """The limits of the rule, from inside."""
    assert room.create("widgets", room.widget(name)) == room.read("widgets", name)


@pytest.mark.parametrize("name", ["Ada", "a.b", "a" * 64, "-a"])
def test_a_namespace_is_a_dns_label(api: Api, name: str) -> None:
    """At most 63 characters, no dots."""
    assert causes(api.post(NAMESPACES, {"metadata": {"name": name}}))["metadata.name"] == "FieldValueInvalid"


@pytest.mark.parametrize("body", [{}, {"metadata": {}}, {"metadata": {"labels": {"a": "b"}}}])
def test_a_name_is_required(room: Room, body: dict[str, Any]) -> None:
    """Unless one is generated."""
    assert causes(room.api.post(room.path("configmaps"), body)) == {"metadata.name": "FieldValueRequired"}


@pytest.mark.parametrize("plural", ["widgets", "configmaps"])
@pytest.mark.parametrize(
    "labels",
    [{"a b": "x"}, {"": "x"}, {"/a": "x"}, {"a/b/c": "x"}, {"a": "b c"}, {"a": "-"}, {"a": "x" * 64}, {"x" * 64: "a"}],
    ids=lambda labels: next(iter(labels.items()))[0][:5],
)
def test_an_invalid_label_is_422(room: Room, plural: str, labels: dict[str, str]) -> None:
    """Values have at most 63 characters: an agent's name fits, its instructions do not."""
    manifest = room.widget("ada", labels=labels) if plural == "widgets" else room.config_map("ada", labels=labels)
    assert set(causes(room.api.post(room.path(plural), manifest))) == {"metadata.labels"}


@pytest.mark.parametrize("plural", ["widgets", "configmaps"])
@pytest.mark.parametrize("field", ["labels", "annotations"])
def test_labels_and_annotations_are_strings(room: Room, plural: str, field: str) -> None:
    """A number or an object is refused, not converted."""
    for value in (5, True, {"x": "y"}, ["x"]):
        manifest = room.widget("ada") if plural == "widgets" else room.config_map("ada")
        manifest["metadata"][field] = {"a": value}
        assert room.api.post(room.path(plural), manifest).status_code in (400, 422)
    assert not room.exists(plural, "ada")


def test_annotations_have_a_limit(room: Room) -> None:
    """256 KiB for all of them together, which is why kopf stores no copy of our objects there and we no texts."""
    annotations = {"a": "x" * 262144}
    found = causes(room.api.post(room.path("configmaps"), room.config_map("ada", annotations=annotations)))
    assert found == {"metadata.annotations": "FieldValueTooLong"}
    room.create("configmaps", room.config_map("ada", annotations={"a": "x" * 262000}))


def test_a_config_map_has_a_limit(room: Room) -> None:
    """1 MiB."""
    refused(room.api.post(room.path("configmaps"), room.config_map("ada", {"x": "x" * 1100000})), 422, "Invalid")


def test_a_body_has_a_limit(room: Room) -> None:
    """Slightly above 3 MiB is refused before it is parsed."""
    refused(room.api.post(room.path("widgets"), b"{" + b" " * 4_000_000), 413, "RequestEntityTooLarge")


@pytest.mark.parametrize("plural", ["widgets", "configmaps"])
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"5", b"\xff\xfe", b"nonsense", b"{}{}"], ids=repr)
def test_a_body_that_is_no_object_is_400(room: Room, plural: str, body: bytes) -> None:
    """With a Status, like every refusal."""
    refused(room.api.post(room.path(plural), body), 400, "BadRequest")


@pytest.mark.parametrize(
    "metadata",
    [{"name": 5}, {"name": ["a"]}, {"labels": "x"}, {"annotations": []}, {"finalizers": "x"}, {"ownerReferences": {}}],
    ids=str,
)
def test_metadata_of_a_wrong_type_is_refused(room: Room, metadata: dict[str, Any]) -> None:
    """For every kind."""
    for plural in ("widgets", "configmaps"):
        manifest = room.widget("ada") if plural == "widgets" else room.config_map("ada")
        manifest["metadata"] |= metadata
        assert room.api.post(room.path(plural), manifest).status_code in (400, 422)


def test_a_body_of_another_media_type_is_415(room: Room) -> None:
    """The server does not guess."""
    answer = room.api.post(room.path("configmaps"), b"x=1", content_type="application/x-www-form-urlencoded")
    refused(answer, 415, "UnsupportedMediaType")


def test_a_response_of_another_media_type_is_406(room: Room) -> None:
    """The server returns JSON only."""
    refused(room.api.get(room.path("configmaps"), accept="image/png"), 406, "NotAcceptable")


@pytest.mark.parametrize("path", ["/nothing", "/api/v2", "/apis/no.such.group/v1/things", "/api/v1/nothing"])
def test_an_unknown_path_is_404(api: Api, path: str) -> None:
    """Also for kinds that we do not use."""
    assert api.get(path).status_code == 404


def test_a_finalizer_has_a_qualified_name(room: Room) -> None:
    """`domain/name`."""
    answer = room.api.post(room.path("widgets"), room.widget("ada", metadata={"finalizers": ["not a name"]}))
    assert "metadata.finalizers" in causes(answer)
