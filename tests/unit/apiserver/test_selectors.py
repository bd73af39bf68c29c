"""Label and field selectors."""

import pytest

from komputer.local.apiserver.errors import StatusError
from komputer.local.apiserver.selectors import both, fields, labels

ADA = {"metadata": {"name": "ada", "namespace": "team", "labels": {"a": "1", "x.io/b": "two", "n": "5"}}}
BARE = {"metadata": {"name": "bare"}}


@pytest.mark.parametrize(
    ("selector", "ada", "bare"),
    [
        ("a=1", True, False),
        ("a==1", True, False),
        ("a!=1", False, True),
        ("a", True, False),
        ("!a", False, True),
        ("a in (0, 1)", True, False),
        ("a notin (1,2)", False, True),
        ("x.io/b in (two),a=1", True, False),
        ("x.io/b=two,a=2", False, False),
        ("n>4", True, False),
        ("n<5", False, False),
        ("a=", False, False),
    ],
)
def test_a_label_selector_matches_the_expected_objects(selector: str, ada: bool, bare: bool) -> None:
    chosen = labels(selector)
    assert chosen
    assert (chosen(ADA), chosen(BARE)) == (ada, bare)


def test_an_empty_selector_restricts_nothing() -> None:
    assert (labels(""), labels(" "), fields("", "pods"), both(None, None)) == (None, None, None, None)


@pytest.mark.parametrize("selector", ["a=b=c", "in (a)", "a in", "a in (b", "!!a", "a,,b", "/a", "a=ä", "a in ((b))"])
def test_an_invalid_label_selector_is_400(selector: str) -> None:
    with pytest.raises(StatusError) as refused:
        labels(selector)
    assert refused.value.code == 400


def test_a_field_selector_matches_the_expected_objects() -> None:
    named, others = fields("metadata.name=ada", "widgets"), fields("metadata.name!=ada,metadata.namespace=", "widgets")
    assert named
    assert others
    assert (named(ADA), named(BARE), others(ADA), others(BARE)) == (True, False, False, True)


def test_only_pods_can_be_selected_by_phase() -> None:
    running = fields("status.phase=Running", "pods")
    assert running
    assert running({"metadata": {}, "status": {"phase": "Running"}})
    assert not running({"metadata": {}})
    with pytest.raises(StatusError):
        fields("status.phase=Running", "widgets")


def test_two_selectors_must_both_match() -> None:
    chosen = both(labels("a=1"), fields("metadata.name=bare", "pods"))
    assert chosen
    assert not chosen(ADA)
