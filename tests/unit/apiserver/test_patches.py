"""The three types of patch."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from komputer.local.apiserver.builtin_schema import MERGE_KEYS
from komputer.local.apiserver.errors import StatusError
from komputer.local.apiserver.patch import is_same, json_patch, merge_patch, strategic_merge_patch

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


def refusal(document: Any, *operations: Any) -> int:
    with pytest.raises(StatusError) as refused:
        json_patch(document, list(operations))
    return refused.value.code


def operation(op: str, path: str, **more: Any) -> dict[str, Any]:
    return {"op": op, "path": path, **more}


def test_a_merge_patch_changes_only_what_it_names() -> None:
    before = {"a": {"b": 1, "c": 2}, "d": [1, 2]}
    assert merge_patch(before, {"a": {"b": None, "e": 3}, "d": [3]}) == {"a": {"c": 2, "e": 3}, "d": [3]}
    assert before == {"a": {"b": 1, "c": 2}, "d": [1, 2]}


def test_a_merge_patch_drops_the_nulls_of_what_it_adds() -> None:
    assert merge_patch({}, {"a": {"b": None, "c": {"d": None}}}) == {"a": {"c": {}}}


@given(json_values, json_values)
def test_a_merge_patch_is_idempotent(document: Any, patch: Any) -> None:
    once = merge_patch(document, patch)
    assert merge_patch(once, patch) == once


def test_a_test_for_null_passes_on_a_missing_key() -> None:
    assert json_patch({"spec": {}}, [operation("test", "/spec/task", value=None)]) == {"spec": {}}


def test_a_test_for_null_fails_on_a_present_key_or_a_missing_parent() -> None:
    assert refusal({"spec": {"task": 1}}, operation("test", "/spec/task", value=None)) == 422
    assert refusal({}, operation("test", "/spec/task", value=None)) == 422


@pytest.mark.parametrize(("stored", "tested"), [(1, True), (1, 1.0), (0, False), ("1", 1), ([], {})])
def test_a_test_compares_values_as_json(stored: Any, tested: Any) -> None:
    assert refusal({"a": stored}, operation("test", "/a", value=tested)) == 422


def test_the_order_of_keys_does_not_matter_to_a_test() -> None:
    assert is_same({"b": [2], "a": 1}, {"a": 1, "b": [2]})
    assert is_same({"a": 1, "b": [2]}, {"b": [2], "a": 1})


def test_replacing_a_missing_key_adds_it() -> None:
    assert json_patch({}, [operation("replace", "/a", value=1)]) == {"a": 1}


def test_list_items_are_addressed_by_positive_and_negative_indexes() -> None:
    before = {"a": [1, 2, 3]}
    patch = [
        operation("add", "/a/-", value=4),
        operation("add", "/a/0", value=0),
        operation("remove", "/a/-1"),
        operation("replace", "/a/1", value=9),
    ]
    assert json_patch(before, patch) == {"a": [0, 9, 2, 3]}
    assert before == {"a": [1, 2, 3]}


def test_keys_are_escaped_in_pointers() -> None:
    assert json_patch({"a/b": {"c~d": 1}}, [operation("remove", "/a~1b/c~0d")]) == {"a/b": {}}


def test_move_and_copy_transfer_values() -> None:
    patch = [{"op": "copy", "from": "/a", "path": "/b"}, {"op": "move", "from": "/a", "path": "/c"}]
    assert json_patch({"a": {"x": 1}}, patch) == {"b": {"x": 1}, "c": {"x": 1}}


@pytest.mark.parametrize(
    "wrong",
    [
        operation("remove", "/missing"),
        operation("add", "/a/9", value=1),
        operation("add", "/a/x", value=1),
        operation("add", "/missing/b", value=1),
        operation("add", "a", value=1),
        operation("remove", ""),
        operation("sing", "/a"),
        {"op": "add", "value": 1},
        {"op": "move", "path": "/a"},
    ],
    ids=str,
)
def test_an_operation_that_does_not_apply_is_422(wrong: Any) -> None:
    assert refusal({"a": [1]}, wrong) == 422


def test_a_malformed_patch_is_400() -> None:
    with pytest.raises(StatusError) as refused:
        json_patch({}, {"op": "add"})
    assert refused.value.code == 400


def strategic(document: Any, patch: Any) -> Any:
    return strategic_merge_patch(document, patch, MERGE_KEYS)


def test_a_strategic_patch_merges_lists_by_their_key() -> None:
    before = {"containers": [{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]}, {"name": "b"}]}
    patch = {"containers": [{"name": "a", "image": "2", "env": [{"name": "Y", "value": "2"}]}, {"name": "c"}]}
    env = [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]
    assert strategic(before, patch) == {
        "containers": [{"name": "a", "image": "2", "env": env}, {"name": "b"}, {"name": "c"}]
    }


def test_a_strategic_patch_deletes_and_orders_list_items() -> None:
    before = {"env": [{"name": "A"}, {"name": "B"}, {"name": "C"}]}
    patch = {
        "$setElementOrder/env": [{"name": "C"}, {"name": "A"}],
        "env": [{"name": "B", "$patch": "delete"}, {"name": "A", "value": "1"}],
    }
    assert strategic(before, patch) == {"env": [{"name": "C"}, {"name": "A", "value": "1"}]}


def test_a_strategic_patch_replaces_lists_without_a_merge_key() -> None:
    assert strategic({"args": ["a", "b"]}, {"args": ["c"]}) == {"args": ["c"]}


def test_a_strategic_patch_adds_and_removes_finalizers() -> None:
    patch = {"$deleteFromPrimitiveList/finalizers": ["a/b"], "finalizers": ["e/f"]}
    assert strategic({"finalizers": ["a/b", "c/d"]}, patch) == {"finalizers": ["c/d", "e/f"]}


def test_a_strategic_patch_keeps_only_the_keys_it_retains() -> None:
    before = {"volumes": [{"name": "v", "emptyDir": {}}]}
    patch = {"volumes": [{"name": "v", "$retainKeys": ["name", "secret"], "secret": {"secretName": "s"}}]}
    assert strategic(before, patch) == {"volumes": [{"name": "v", "secret": {"secretName": "s"}}]}


def test_a_strategic_patch_with_the_replace_directive_replaces_a_map() -> None:
    assert strategic({"labels": {"a": "1"}}, {"labels": {"$patch": "replace", "b": "2"}}) == {"labels": {"b": "2"}}


def test_a_list_item_without_its_key_is_400() -> None:
    with pytest.raises(StatusError) as refused:
        strategic({"env": []}, {"env": [{"value": "1"}]})
    assert refused.value.code == 400
