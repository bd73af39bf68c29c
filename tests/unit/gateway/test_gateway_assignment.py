"""What a runtime is told, of plain resources."""

from typing import Any

from komputer.domain.agent import Agent, digest_of
from komputer.domain.config import Config
from komputer.gateway.agents.assignment import assignment

API_TASK = "01JAPJ0000000000000000000A"
MANIFEST_TASK = "01JAPJ0000000000000000000B"
CONFIG = Config.model_validate({"spec": {"redis": {"address": "redis:6379"}, "stallSeconds": 7, "maxAttempts": 2}})


def agent(*, spec: dict[str, Any] | None = None, status: dict[str, Any] | None = None) -> Agent:
    metadata = {"name": "ada", "namespace": "team", "uid": "uid-1", "generation": 4}
    whole = {"instructions": "Say hello.", **(spec or {})}
    return Agent.model_validate({"metadata": metadata, "spec": whole, "status": status or {}})


def api_task(instructions: str = "Count.") -> dict[str, Any]:
    return {"id": API_TASK, "instructions": instructions, "covers": {"digest": digest_of("Say hello.")}}


def recorded() -> dict[str, Any]:
    return {"manifestTask": {"digest": digest_of("Say hello."), "id": MANIFEST_TASK}}


def test_the_manifests_task_is_assigned_once_it_has_an_id() -> None:
    assert assignment(agent(), CONFIG).task is None
    told = assignment(agent(status=recorded()), CONFIG).task
    assert told is not None
    assert (told.id, told.instructions) == (MANIFEST_TASK, "Say hello.")


def test_the_apis_task_goes_first_and_an_ended_one_is_not_assigned() -> None:
    told = assignment(agent(spec={"task": api_task()}, status=recorded()), CONFIG).task
    assert told is not None
    assert (told.id, told.instructions) == (API_TASK, "Count.")
    over = {**recorded(), "endedTasks": [API_TASK, MANIFEST_TASK]}
    assert assignment(agent(spec={"task": api_task()}, status=over), CONFIG).task is None


def test_it_says_whose_it_is_and_of_which_generation() -> None:
    told = assignment(agent(), None)
    assert (told.uid, told.namespace, told.name, told.generation) == ("uid-1", "team", "ada", 4)


def test_the_limits_come_from_the_config_and_else_from_the_door() -> None:
    with_config, without = assignment(agent(), CONFIG), assignment(agent(), None)
    assert (with_config.stall_seconds, with_config.max_attempts) == (7, 2)
    assert (without.stall_seconds, without.max_attempts) == (300, 5)


def test_the_cancelled_and_the_accounted_tasks_the_model_the_role_and_the_prompt_are_told() -> None:
    spec = {"cancelTaskID": API_TASK, "model": "claude-opus-5-5", "role": "worker", "systemPrompt": "Be brief."}
    told = assignment(agent(spec=spec, status={"endedTasks": [MANIFEST_TASK]}), CONFIG)
    assert told.cancel_task_id == API_TASK
    assert told.accounted == [MANIFEST_TASK]
    assert (told.settings.model, told.settings.role, told.settings.system_prompt) == (
        "claude-opus-5-5",
        "worker",
        "Be brief.",
    )


def test_no_task_is_handed_out_while_its_secrets_cannot_be_read() -> None:
    given = agent(spec={"task": api_task()}, status=recorded())
    assert assignment(given, CONFIG, None).task is None
    told = assignment(given, CONFIG, {"SECRET_A": "value-of-a"})
    assert told.task is not None
    assert told.environment == {"SECRET_A": "value-of-a"}
    assert "value-of-a" not in repr(told), "so that no log line shows it"
