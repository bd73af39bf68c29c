"""Bodies, checked at the border."""

import contextlib

import pytest
from pydantic import ValidationError

from komputer.api.schemas import agents, connectors, secrets
from komputer.api.schemas.agents import Body, CreateAgent, PatchAgent, settings_given


@pytest.mark.parametrize("kind", [CreateAgent, PatchAgent])
def test_a_null_is_an_absent_field(kind: type[CreateAgent] | type[PatchAgent]) -> None:
    given = {"name": "ada", "instructions": "x"}
    optional = {field.alias or name: None for name, field in kind.model_fields.items() if not field.is_required()}
    nulls = kind.model_validate({**optional, **given})
    assert settings_given(nulls) == settings_given(kind.model_validate(given))


@pytest.mark.parametrize("value", [None, "", 0, [], {}, [None], {"a": None}, "x" * 2_000_000])
def test_whatever_stands_in_a_field_is_taken_or_refused(value: object) -> None:
    """A constraint that cannot be applied would be our defect."""
    fields = [
        (body, field.alias or name)
        for module in (agents, connectors, secrets)
        for body in vars(module).values()
        if isinstance(body, type) and issubclass(body, Body)
        for name, field in body.model_fields.items()
    ]
    assert len(fields) > 30
    for body, name in fields:
        with contextlib.suppress(ValidationError):
            body.model_validate({name: value})


@pytest.mark.parametrize(
    "alias", ["haiku", "sonnet", "opus", "opus[1m]", "opusplan", "best", "fable", "default", "Haiku"]
)
@pytest.mark.parametrize("kind", [CreateAgent, PatchAgent])
def test_an_alias_of_a_model_is_refused_with_a_sentence(kind: type[CreateAgent] | type[PatchAgent], alias: str) -> None:
    with pytest.raises(ValidationError, match="is an alias; write the model's id"):
        kind.model_validate({"name": "ada", "instructions": "x", "model": alias})
    for model in ("claude-haiku-4-5", "claude-sonnet-4-6[1m]", "claude-opus-5-5@20260101"):
        assert kind.model_validate({"name": "ada", "instructions": "x", "model": model}).model == model
