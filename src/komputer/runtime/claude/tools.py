"""Decides which tools exist for a task, and which calls are refused. Pure.

A rule is one of Claude's permission rules: a tool's name stands for all of its calls, `Bash(git:*)` for some of them,
and `mcp__github` for all tools of a connector.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from komputer.protocol import wire

NOTHING: Final = "none"
"""A rule that allows nothing: no tool has this name."""


@dataclass(frozen=True)
class ToolPolicy:
    """The rules of a task's settings, as Claude applies them."""

    allowed: tuple[str, ...] | None
    """The rules of allowed tools and calls. None: everything is allowed."""
    disallowed: tuple[str, ...]

    @classmethod
    def of(cls, task: wire.TaskSettings) -> ToolPolicy:
        return cls(tuple(task.allowed_tools) if task.allowed_tools else None, tuple(task.disallowed_tools))

    @property
    def built_in(self) -> list[str]:
        """Claude's own tools that exist for the task."""
        return [tool for tool in wire.BUILT_IN_TOOLS if self.may_call(tool)]

    def has_server(self, name: str) -> bool:
        """Whether any tool of an MCP server (a connector's, or the manager's own) exists."""
        whole = f"mcp__{name}"
        rules = [rule.partition("(")[0] for rule in self.allowed or (whole,)]
        return whole not in self.disallowed and any(rule == whole or rule.startswith(f"{whole}__") for rule in rules)

    @property
    def removed(self) -> list[str]:
        """Tools and connectors that are not shown to the model at all."""
        return [rule for rule in self.disallowed if "(" not in rule]

    @property
    def has_allowed_patterns(self) -> bool:
        """Whether some tools are allowed for some calls only. If so, every call that no rule allows is refused."""
        return any("(" in rule for rule in self.allowed or ())

    @property
    def permissions(self) -> dict[str, Any]:
        """Claude's permission rules, which allow or deny. A denial takes precedence."""
        rules: dict[str, Any] = {}
        if self.disallowed:
            rules["deny"] = list(self.disallowed)
        if self.has_allowed_patterns:
            rules["allow"] = list(self.allowed or ())
        return rules

    def may_call(self, tool: str) -> bool:
        """Whether any call of `tool` is allowed. A connector's tools are known only when they are called, so this is
        checked before each call."""
        if _covers((rule for rule in self.disallowed if "(" not in rule), tool):
            return False
        return self.allowed is None or _covers((rule.partition("(")[0] for rule in self.allowed), tool)


def both_allow(one: list[str] | None, other: list[str] | None) -> list[str] | None:
    """Return the rules of each list that the other list allows as well. None allows everything. If no rule is left,
    return a rule that matches no tool, since an empty list would allow everything."""
    if not one or not other:
        return one or other or None
    rules = [rule for rule in one if any(_implies(wide, rule) for wide in other)]
    rules += [rule for rule in other if any(_implies(wide, rule) for wide in one)]
    return list(dict.fromkeys(rules)) or [NOTHING]


def _implies(wide: str, rule: str) -> bool:
    return wide == rule or ("(" not in wide and _covers([wide], rule.partition("(")[0]))


def settings_json(base: dict[str, Any], tools: ToolPolicy) -> str:
    """Return Claude's settings with the permission rules, as JSON."""
    rules = tools.permissions
    return json.dumps(base | ({"permissions": rules} if rules else {}), separators=(",", ":"))


def _covers(rules: Iterable[str], tool: str) -> bool:
    return any(tool == rule or (rule.startswith("mcp__") and tool.startswith(f"{rule}__")) for rule in rules)
