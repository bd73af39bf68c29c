"""The model's credential: only the gateway has it."""

import json
from collections.abc import Callable

from tests.e2e.laptop import Laptop
from tests.e2e.platform import files_below, script
from tests.e2e.recorder import Recorder

SEARCH = (
    "env; cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n'; cat /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n'; "
    "grep -rIl --exclude-dir=proc --exclude-dir=sys --exclude-dir=usr {key} / 2>/dev/null; echo searched"
)


def test_an_agent_that_looks_everywhere_finds_no_credential(
    new_laptop: Callable[..., Laptop], recorder: Recorder
) -> None:
    key, laptop = recorder.key, new_laptop(environment=recorder.environment)
    assert any("only the gateway has it" in line for line in laptop.output)
    half = key[:12]
    command = SEARCH.format(key=f"'{half}'\"'{key[12:]}'\"".replace("\"'", "''").replace("'\"", ""))
    laptop.assign("spy", script({"tool": "Bash", "input": {"command": command}}, {"say": "done"}))
    assert laptop.end("spy")["type"] == "task_completed"
    output = laptop.event("spy", "tool_result")["payload"]["output"]
    assert "searched" in output
    assert key not in output
    assert set(recorder.keys) == {key}, "the gateway added it to every request"
    for file, content in files_below(laptop.data_dir):
        assert key.encode() not in content, file
    for event in laptop.events("spy"):
        assert key not in json.dumps(event)


def test_a_given_credential_is_never_replaced_by_the_offline_model(new_laptop: Callable[..., Laptop]) -> None:
    laptop = new_laptop(environment={"ANTHROPIC_API_KEY": "sk-ant-made-up", "ANTHROPIC_BASE_URL": "http://127.0.0.1:9"})
    assert not any("offline model answers" in line for line in laptop.output)
    laptop.assign("alone", script({"say": "no"}))
    laptop.event("alone", "retry")
    laptop.http.post("/agents/alone/cancel")
    assert laptop.end("alone", within_s=30)["type"] == "task_cancelled"
