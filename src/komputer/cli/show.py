"""How agents and events look in a terminal. Texts from outside never reach it with control characters."""

import json
from decimal import Decimal
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.table import Table
from rich.text import Text

Json = dict[str, Any]
LINE_LIMIT = 400
MESSAGE_LEAST = 20
"""Cells of a list's last column, also on a terminal that is too narrow for it."""
console = Console(highlight=False, soft_wrap=True)
STYLES = {
    "task_started": "bold",
    "thinking": "dim italic",
    "tool_call": "cyan",
    "tool_result": "dim",
    "retry": "yellow",
    "task_resumed": "yellow",
    "error": "bold red",
    "task_cancelled": "yellow",
}


def clean(text: str) -> str:
    """Without what a terminal would obey."""
    return "".join(char if char in "\n\t" or (char.isprintable()) else "\N{REPLACEMENT CHARACTER}" for char in text)


def print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False), flush=True)


def _short(text: str) -> str:
    first, _, rest = clean(text).strip().partition("\n")
    cut = first if len(first) <= LINE_LIMIT else first[: LINE_LIMIT - 1] + "…"
    return f"{cut} …" if rest else cut


def _told(kind: str, payload: Json) -> str | None:
    """The event as text; None for what a person need not see."""
    match kind:
        case "task_started":
            return f"▶ {_short(payload.get('instructions', ''))}"
        case "task_resumed":
            return f"↻ resumed after {payload.get('cause')} (attempt {payload.get('attempt')})"
        case "user_message":
            return f"› {_short(payload.get('content', ''))}"
        case "thinking":
            return f"… {_short(payload.get('content', ''))}"
        case "text":
            return clean(payload.get("content", "")).strip()
        case "tool_call":
            values = payload.get("input") or {}
            return f"→ {payload.get('tool')}: {_short(str(next(iter(values.values()), '')))}"
        case "tool_result":
            mark = "✗" if payload.get("is_error") else "←"
            return f"{mark} {_short(str(payload.get('output', '')))} ({payload.get('duration_ms', 0)} ms)"
        case "compaction":
            return f"≡ compacted the conversation ({payload.get('tokens_before')} tokens before)"
        case "retry":
            attempt, most = payload.get("attempt"), payload.get("max_retries")
            return f"! the model did not answer (HTTP {payload.get('status')}), retry {attempt} of {most}"
        case "task_completed":
            seconds = payload.get("duration_ms", 0) / 1000
            turns = "1 turn" if payload.get("turns") == 1 else f"{payload.get('turns')} turns"
            return f"✓ completed in {seconds:.1f} s, {turns}, ${payload.get('cost_usd', 0):.4f}"
        case "task_cancelled":
            return f"■ cancelled: {payload.get('reason')}, ${payload.get('cost_usd', 0):.4f}"
        case "error":
            return f"✗ {_short(payload.get('error', ''))} [{payload.get('code')}], ${payload.get('cost_usd', 0):.4f}"
        case "gap":
            return "! some events before this are no longer kept"
        case _:
            return f"· {kind}"


def print_event(event: Json) -> None:
    told = _told(event["type"], event.get("payload") or {})
    if told:
        failed = event["type"] == "tool_result" and event["payload"].get("is_error")
        console.print(Text(told, style="red" if failed else STYLES.get(event["type"], "")))


def print_agents(agents: list[Json], *, with_namespace: bool) -> None:
    """A line each. Only the message is cut, and only to a terminal's width."""
    heads = [*(["NAMESPACE"] if with_namespace else []), "NAME", "STATUS", "TASK", "COST", "MODEL", "MESSAGE"]
    rows = [heads]
    for agent in agents:
        where = [agent["namespace"]] if with_namespace else []
        cost = f"${Decimal(agent['totalCostUSD']):.4f}" if agent.get("totalCostUSD") else ""
        message = _short(agent.get("lastTaskMessage", ""))
        rows.append(
            [*where, agent["name"], agent["status"], agent.get("taskStatus", ""), cost, agent["model"], message]
        )
    widths = [max(cell_len(row[column]) for row in rows) for column in range(len(heads) - 1)]
    left = max(MESSAGE_LEAST, console.width - sum(widths) - 2 * len(widths)) if console.is_terminal else LINE_LIMIT
    for row in rows:
        line = Text("  ".join(map(set_cell_size, row, widths)) + "  ", style="bold" if row is heads else "")
        message_cell = Text(row[-1])
        message_cell.truncate(left, overflow="ellipsis")
        console.print(line + message_cell)


def print_agent(agent: Json) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in agent.items():
        if key == "conditions":
            for condition in value:
                said = f"{condition['status']} {condition.get('reason', '')} {condition.get('message', '')}"
                table.add_row(condition["type"], Text(clean(said).strip()))
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            table.add_row(key, Text(_short(text)))
    console.print(table)
