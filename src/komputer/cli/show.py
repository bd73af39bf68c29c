"""Prints agents as text for a terminal. Control characters are removed from their texts."""

import json
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from komputer.cli import text, transcript
from komputer.client.client import ACTIVE_STATUSES

if TYPE_CHECKING:
    from komputer.doctor.report import Finding

Json = dict[str, Any]
console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
MESSAGE_MIN_CELLS: Final = 20
"""The minimum width of a list's last column in terminal cells: other columns are left out before it becomes
narrower."""
NAME_MIN_CELLS: Final = 16
"""The minimum width of the column of names in terminal cells: longer names are cut if they leave no room for the other
columns."""
STATE_STYLES: Final = {"working": "green", "compacting": "green", "waiting": "yellow", "failed": "red"}
PHASES: Final = {"Sleeping": "asleep", "Archived": "archived", "Queued": "queued"}
STARTING: Final = frozenset({"PodMissing", "PodStarting"})
"""Reasons of blockers that disappear within seconds without any action."""
_INVISIBLE: Final = re.compile(r"[^\x20-\x7e]")


def print_json(value: Any) -> None:
    """Print one line of JSON. Characters that are not printable, or not in the output's encoding, are escaped."""
    encoded = json.dumps(value, ensure_ascii=not _is_unicode(console.encoding))
    print(_INVISIBLE.sub(lambda found: _escaped(found[0]), encoded), flush=True)


def _escaped(char: str) -> str:
    return char if char.isprintable() else json.dumps(char)[1:-1]


def _is_unicode(encoding: str) -> bool:
    return encoding.lower().replace("-", "").replace("_", "").startswith("utf")


def print_line(sentence: str, style: str = "") -> None:
    """Print a sentence, which may quote text of unknown origin."""
    lines = transcript.wrapped(console, text.clean(sentence), 2)
    console.print(Text("\n  ".join(lines), style=style), soft_wrap=True)


def print_note(sentence: str, as_json: bool) -> None:
    """Print a remark that is not an event. With JSON output it goes to standard error, so that programs can ignore
    it."""
    if as_json:
        print(text.clean(sentence), file=sys.stderr, flush=True)
    else:
        print_line(sentence, "yellow")


def print_error(message: str, code: str, as_json: bool) -> None:
    """Print the error of a failed command to standard error."""
    if as_json:
        print(json.dumps({"error": message, "code": code}), file=sys.stderr, flush=True)
        return
    lines = transcript.wrapped(Console(stderr=True), text.clean(f"komputer: {message}"), 2)
    print("\n  ".join(lines), file=sys.stderr, flush=True)


def print_finding(finding: "Finding", style: str) -> None:
    """Print the finding of a check, and below it how to fix what is wrong."""
    first, *more = transcript.wrapped(console, text.clean(f"{finding.check}: {finding.message}"), 10)
    line = Text(f"{finding.state:<9}", style=style).append(first, style="none")
    for each in more:
        line.append(f"\n{'':<9}{each}", style="none")
    for place, each in enumerate(transcript.wrapped(console, text.clean(finding.fix), 12) if finding.fix else ()):
        line.append(f"\n{'':<9}{'→ ' if place == 0 else '  '}{each}", style="none")
    console.print(line, soft_wrap=True)


def print_event(event: Json, *, verbose: bool = False, timestamps: bool = False) -> None:
    transcript.print_event(console, event, verbose=verbose, timestamps=timestamps)


# ---- the state of an agent ------------------------------------------------------------------------------
def blocker(agent: Json) -> tuple[str, str] | None:
    """Return reason and message if an agent cannot work now, otherwise None."""
    for condition in agent.get("conditions") or ():
        if condition.get("type") == "Ready" and condition.get("status") == "False":
            return text.one_line(condition.get("reason")), text.one_line(condition.get("message"))
    return None


def state(agent: Json) -> str:
    """Return the state of an agent: `idle`, `working`, `waiting`, `cancelled`, `failed` …"""
    phase, is_blocked = str(agent.get("status")), blocker(agent) is not None
    if agent.get("taskStatus") in ACTIVE_STATUSES:
        if phase != "Running" or is_blocked:
            return "waiting"
        return "compacting" if agent["taskStatus"] == "Compacting" else "working"
    if phase in PHASES:
        return PHASES[phase]
    if phase == "Failed" or agent.get("lastTaskOutcome") == "error":
        return "failed"
    if phase == "Pending" and is_blocked:
        return "waiting"
    return "cancelled" if agent.get("lastTaskOutcome") == "cancelled" else "idle"


def _message(agent: Json) -> str:
    reason = blocker(agent)
    if reason and state(agent) == "waiting":
        return reason[1] or reason[0]
    return text.one_line(agent.get("lastTaskMessage"))


# ---- lists --------------------------------------------------------------------------------------------------------
COLUMNS: Final[dict[str, Callable[[Json], str]]] = {
    "NAMESPACE": lambda agent: text.one_line(agent.get("namespace")),
    "NAME": lambda agent: text.one_line(agent.get("name")),
    "STATUS": state,
    "COST": lambda agent: text.money(agent.get("totalCostUSD")),
    "MODEL": lambda agent: text.one_line(agent.get("model")),
    "MESSAGE": _message,
}
DROPPED_FIRST: Final = ("MODEL", "COST", "NAMESPACE")
"""The columns that are left out on a narrow terminal, in this order."""


def print_agents(agents: list[Json]) -> None:
    """Print one line per agent, no wider than the terminal. In a pipe the width is not limited."""
    heads = [head for head in COLUMNS if head != "NAMESPACE" or len({agent.get("namespace") for agent in agents}) > 1]
    cells = {head: [head, *(COLUMNS[head](agent) for agent in agents)] for head in heads}
    widths = {head: max(map(cell_len, cells[head])) for head in heads[:-1]}
    width = console.width if console.is_terminal else None
    for head in DROPPED_FIRST if width else ():
        if head in widths and width and width - sum(widths.values()) - 2 * len(widths) < MESSAGE_MIN_CELLS:
            del widths[head]
    if width and (left := width - sum(widths.values()) - 2 * len(widths)) < MESSAGE_MIN_CELLS:
        widths["NAME"] = max(NAME_MIN_CELLS, widths["NAME"] - MESSAGE_MIN_CELLS + left)
    for row in range(len(agents) + 1):
        line = Text(style="bold" if row == 0 else "")
        for head, cells_wide in widths.items():
            style = STATE_STYLES.get(cells[head][row], "") if head == "STATUS" else ""
            line.append(f"{_fitted(cells[head][row], cells_wide)}  ", style=style)
        line.append(cells["MESSAGE"][row])
        line.rstrip()
        if width:
            line.truncate(width, overflow="ellipsis")
        console.print(line, soft_wrap=True)


def _fitted(cell: str, cells_wide: int) -> str:
    if cell_len(cell) > cells_wide:
        return set_cell_size(cell, cells_wide - 1) + "…"
    return set_cell_size(cell, cells_wide)


# ---- one agent ----------------------------------------------------------------------------------------------------
def _cost(agent: Json) -> str:
    total, last = text.money(agent.get("totalCostUSD")), text.money(agent.get("lastTaskCostUSD"))
    return f"{total}, last task {last}" if total and last and last != total else total


def _labels(agent: Json) -> str:
    labels = agent.get("labels")
    return ", ".join(f"{key}={value}" for key, value in labels.items()) if isinstance(labels, dict) else ""


FIELDS: Final[dict[str, Callable[[Json], Any]]] = {
    "Name": lambda agent: agent.get("name"),
    "Namespace": lambda agent: agent.get("namespace"),
    "Status": lambda agent: ": ".join(filter(None, [state(agent), (blocker(agent) or ("", ""))[1]])),
    "Task": lambda agent: agent.get("instructions"),
    "Last message": lambda agent: agent.get("lastTaskMessage"),
    "Cost": _cost,
    "Tokens": lambda agent: agent.get("totalTokens"),
    "Model": lambda agent: agent.get("model"),
    "Role": lambda agent: agent.get("role"),
    "Template": lambda agent: agent.get("templateRef") if agent.get("templateRef") != "default" else None,
    "Labels": _labels,
    "Created": lambda agent: text.date_and_age(agent.get("createdAt")),
    "Last active": lambda agent: text.date_and_age(agent.get("lastActivityAt")),
    "Session": lambda agent: agent.get("sessionId"),
}
SHOWN_ABOVE: Final = frozenset(
    {"name", "namespace", "status", "taskStatus", "instructions", "lastTaskMessage", "lastTaskOutcome", "conditions"}
    | {"totalCostUSD", "lastTaskCostUSD", "totalTokens", "model", "role", "templateRef", "labels", "sessionId"}
    | {"createdAt", "lastActivityAt", "completionTime", "modelContextWindow", "taskID"}
)
"""Fields that `FIELDS` shows, or that are of no use to people. Each other field is shown under a label derived from its
name."""


def print_agent(agent: Json) -> None:
    """Print the fields of an agent, without empty ones. (`--json` prints the object itself.)"""
    rows = {label: value(agent) for label, value in FIELDS.items()}
    rows |= {_label(key): value for key, value in agent.items() if key not in SHOWN_ABOVE}
    for condition in agent.get("conditions") or ():
        if condition.get("status") == "False" and condition.get("type") not in ("Ready", "PodReady", "TaskStarted"):
            rows.setdefault("Note", condition.get("message") or condition.get("reason"))
    shown = {label: _value(value) for label, value in rows.items() if value not in (None, "", 0, [], {})}
    indent = max(map(len, shown), default=0) + 2
    for label, value in shown.items():
        first, *more = transcript.wrapped(console, value, indent)
        line = Text(f"{label:<{indent}}", style="bold").append(first, style="not bold")
        for each in more:
            line.append(f"\n{'':<{indent}}{each}", style="not bold")
        console.print(line, soft_wrap=True)


def _label(key: str) -> str:
    """Return `Allowed tools` for `allowedTools`, `Budget USD` for `budgetUSD`."""
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", text.one_line(key))
    first, *others = words or [key]
    return " ".join([first.capitalize(), *(word if word.isupper() else word.lower() for word in others)])


def _value(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return text.excerpt(value, 6)
