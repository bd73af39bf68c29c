"""Which tools exist for a task."""

import json

from komputer.protocol.wire import BUILT_IN_TOOLS, TaskSettings
from komputer.runtime.claude.tools import ToolPolicy, settings_json


def tools(allowed: list[str] | None = None, disallowed: list[str] | None = None) -> ToolPolicy:
    return ToolPolicy.of(
        TaskSettings(model="m", role="worker", allowed_tools=allowed, disallowed_tools=disallowed or [])
    )


def test_without_lists_everything_exists() -> None:
    assert tools().built_in == list(BUILT_IN_TOOLS)
    assert tools().may_call("mcp__github__list")
    assert json.loads(settings_json({"a": 1}, tools())) == {"a": 1}


def test_what_is_not_allowed_does_not_exist_and_a_refusal_wins() -> None:
    some = tools(["Bash", "Write", "mcp__github", "mcp__jira__read"], ["Write", "mcp__github__delete"])
    assert some.built_in == ["Bash"]
    assert some.may_call("mcp__github__list")
    assert not some.may_call("mcp__github__delete")
    assert not some.may_call("mcp__githubber__list")
    assert some.may_call("mcp__jira__read")
    assert not some.may_call("mcp__jira__write")
    assert some.removed == ["Write", "mcp__github__delete"]


def test_a_whole_connector_can_be_refused() -> None:
    assert not tools(None, ["mcp__github"]).may_call("mcp__github__list")


def test_a_pattern_refuses_or_allows_some_calls_of_a_tool_that_exists() -> None:
    refusing = tools(None, ["Bash(rm:*)"])
    assert "Bash" in refusing.built_in
    assert refusing.removed == []
    assert not refusing.has_allowed_patterns
    assert json.loads(settings_json({}, refusing)) == {"permissions": {"deny": ["Bash(rm:*)"]}}
    allowing = tools(["Bash(git:*)", "Read"])
    assert allowing.built_in == ["Bash", "Read"]
    assert allowing.has_allowed_patterns
    assert json.loads(settings_json({}, allowing))["permissions"]["allow"] == ["Bash(git:*)", "Read"]
