"""Which tools exist for a task, and which calls are refused. Pure.

A tool's name stands for all of its calls, `Bash(git:*)` for some of them (Claude's own permission rules), `mcp__github`
for all tools of a connector.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from komputer.protocol import wire

NOTHING: Final = "none"
"""A rule that allows no tool: none has this name."""


@dataclass(frozen=True)
class ToolPolicy:
    """What a task's settings mean for Claude."""

    allowed: tuple[str, ...] | None
    """None: everything."""
    disallowed: tuple[str, ...]

    @classmethod
    def of(cls, task: wire.TaskSettings) -> ToolPolicy:
        return cls(tuple(task.allowed_tools) if task.allowed_tools else None, tuple(task.disallowed_tools))

    @property
    def built_in(self) -> list[str]:
        """Of Claude's own tools those that exist."""
        return [tool for tool in wire.BUILT_IN_TOOLS if self.may_call(tool)]

    def has_server(self, name: str) -> bool:
        """Whether any tool of this MCP server exists: a connector's, or the manager's own."""
        whole = f"mcp__{name}"
        rules = [rule.partition("(")[0] for rule in self.allowed or (whole,)]
        return whole not in self.disallowed and any(rule == whole or rule.startswith(f"{whole}__") for rule in rules)

    @property
    def removed(self) -> list[str]:
        """Whole tools and whole connectors that are not shown to the model."""
        return [rule for rule in self.disallowed if "(" not in rule]

    @property
    def has_allowed_patterns(self) -> bool:
        """Some tools exist for some calls only: then what is not allowed is refused, instead of the other way round."""
        return any("(" in rule for rule in self.allowed or ())

    @property
    def permissions(self) -> dict[str, Any]:
        """Claude's permission rules: refusals win."""
        rules: dict[str, Any] = {}
        if self.disallowed:
            rules["deny"] = list(self.disallowed)
        if self.has_allowed_patterns:
            rules["allow"] = list(self.allowed or ())
        return rules

    def may_call(self, tool: str) -> bool:
        """Whether any call of `tool` may be made. A connector's tools are only known when they are called, so this is
        asked before each call."""
        if _covers((rule for rule in self.disallowed if "(" not in rule), tool):
            return False
        return self.allowed is None or _covers((rule.partition("(")[0] for rule in self.allowed), tool)


def both_allow(one: list[str] | None, other: list[str] | None) -> list[str] | None:
    """The rules of either list that the other one allows as well; None is a list of everything. Where nothing is left
    the answer is a rule that no tool has, since an empty list would mean everything."""
    if not one or not other:
        return one or other or None
    rules = [rule for rule in one if any(_implies(wide, rule) for wide in other)]
    rules += [rule for rule in other if any(_implies(wide, rule) for wide in one)]
    return list(dict.fromkeys(rules)) or [NOTHING]


def _implies(wide: str, rule: str) -> bool:
    return wide == rule or ("(" not in wide and _covers([wide], rule.partition("(")[0]))


def settings_json(base: dict[str, Any], tools: ToolPolicy) -> str:
    """Claude's settings with the rules in them."""
    rules = tools.permissions
    return json.dumps(base | ({"permissions": rules} if rules else {}), separators=(",", ":"))


def _covers(rules: Iterable[str], tool: str) -> bool:
    return any(tool == rule or (rule.startswith("mcp__") and tool.startswith(f"{rule}__")) for rule in rules)
