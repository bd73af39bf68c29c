"""Bodies, checked at the border."""

import pytest

from komputer.api.bodies import CreateAgent, PatchAgent, settings_given


@pytest.mark.parametrize("kind", [CreateAgent, PatchAgent])
def test_a_null_is_an_absent_field(kind: type[CreateAgent] | type[PatchAgent]) -> None:
    given = {"name": "ada", "instructions": "x"}
    optional = {field.alias or name: None for name, field in kind.model_fields.items() if not field.is_required()}
    nulls = kind.model_validate({**optional, **given})
    assert settings_given(nulls) == settings_given(kind.model_validate(given))
