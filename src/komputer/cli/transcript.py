"""Prints events as text for a terminal."""

from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from rich.console import Console
from rich.text import Text

from komputer.cli import text

Json = dict[str, Any]
STYLES: Final = {
    "task_started": "bold",
    "thinking": "dim italic",
    "tool_call": "cyan",
    "tool_result": "dim",
    "retry": "yellow",
    "task_resumed": "yellow",
    "error": "bold red",
    "task_cancelled": "yellow",
}
ARGUMENTS: Final = ("command", "file_path", "notebook_path", "path", "pattern", "url", "query", "prompt", "description")
"""Fields of a tool's input, the most informative first. Without `--verbose` the first that exists is shown."""
CALL_LINES, RESULT_LINES, RESULT_LAST, FAILURE_LINES, FAILURE_LAST, THINKING_LINES = 6, 6, 4, 4, 12, 3
"""How many lines are shown without `--verbose`. More of a failure's end is shown, since that contains stderr."""
NEW_LINE: Final = "\n"


class Block(NamedTuple):
    """One event as text: a symbol, its lines, and a suffix of the last line."""

    sign: str
    body: str
    suffix: str = ""


def block(kind: str, payload: Json, *, verbose: bool = False) -> Block | None:
    """Return the event as text without control sequences, or None if it is not shown.

    `payload` may contain anything: fields that are missing or of another type are left out.
    """

    def part(name: str, head: int, tail: int = 0) -> str:
        value = payload.get(name)
        return text.clean(text.as_text(value)).strip("\n") if verbose else text.excerpt(value, head, tail)

    match kind:
        case "task_started":
            return Block("▶", part("instructions", CALL_LINES))
        case "task_resumed":
            cause, attempt = (text.one_line(payload.get(name)) for name in ("cause", "attempt"))
            return Block("↻", f"resumed after {cause.replace('_', ' ')} (attempt {attempt})")
        case "user_message":
            return Block("›", part("content", CALL_LINES))
        case "thinking":
            return Block("…", part("content", THINKING_LINES))
        case "text":
            return Block("", text.clean(text.as_text(payload.get("content"))).strip())
        case "tool_call":
            tool = text.one_line(payload.get("tool"))
            given = _input(payload.get("input"), verbose)
            return Block("→", f"{tool}{': ' if given and given[0] != NEW_LINE else ''}{given}")
        case "tool_result":
            failed = payload.get("is_error") is True
            limits = (FAILURE_LINES, FAILURE_LAST) if failed else (RESULT_LINES, RESULT_LAST)
            took = text.duration(payload.get("duration_ms"))
            return Block("✗" if failed else "←", part("output", *limits) or "no output", f" ({took})" if took else "")
        case "compaction":
            before = text.amount(payload.get("tokens_before"))
            return Block("≡", "compacted the conversation" + (f" ({before:,.0f} tokens before)" if before else ""))
        case "retry":
            status = text.one_line(payload.get("status"))
            attempt, most = (text.one_line(payload.get(name)) for name in ("attempt", "max_retries"))
            what = f"answered HTTP {status}" if status else "did not answer"
            return Block("!", f"the model {what}, retry {attempt} of {most}")
        case "task_completed":
            turns = text.one_line(payload.get("turns"))
            facts = [f"{turns} turn{'' if turns == '1' else 's'}"] if turns else []
            facts += filter(None, [text.money(payload.get("cost_usd"))])
            return Block("✓", ", ".join([f"completed in {text.duration(payload.get('duration_ms'))}".strip(), *facts]))
        case "task_cancelled":
            reason = text.one_line(payload.get("reason"))
            is_said = reason.lower().startswith("cancelled")
            return Block("■", reason if is_said else f"cancelled: {reason}".removesuffix(": "), _cost(payload))
        case "error":
            code = text.one_line(payload.get("code"))
            return Block("✗", part("error", 20), (f" [{code}]" if code else "") + _cost(payload))
        case "gap":
            return Block("!", "some events before this are no longer kept")
        case _:
            return Block("·", text.one_line(kind))


def _cost(payload: Json) -> str:
    found = text.amount(payload.get("cost_usd"))
    return f", {text.money(found)}" if found else ""


def _input(value: Any, verbose: bool) -> str:
    """Return the most informative field of a tool's input, or with `verbose` all fields."""
    if not isinstance(value, dict):
        return text.one_line(value)
    if verbose:
        return "".join(f"\n{_named(text.clean(key), text.clean(text.as_text(each)))}" for key, each in value.items())
    for name in ARGUMENTS:
        if isinstance(value.get(name), str):
            return text.excerpt(value[name], CALL_LINES)
    return text.one_line(value)


def _named(name: str, value: str) -> str:
    """Return `name: value`. A value of several lines begins below the name."""
    return f"{name}: {value}" if NEW_LINE not in value else f"{name}:\n  " + value.rstrip().replace("\n", "\n  ")


def print_event(console: Console, event: Json, *, verbose: bool = False, timestamps: bool = False) -> None:
    """Print one event. On a terminal it is wrapped at spaces, in a pipe it is not wrapped."""
    payload = event.get("payload")
    kind = event["type"]
    found = block(kind, payload if isinstance(payload, dict) else {}, verbose=verbose)
    if found is None or not (found.sign or found.body):
        return
    is_failure = found.sign == "✗" and kind == "tool_result"
    style = "red" if is_failure else STYLES.get(kind, "")
    stamp = f"{text.clock(event.get('timestamp'), datetime.now(UTC))} " if timestamps else ""
    first = f"{found.sign} " if found.sign else ""
    indent = " " * (len(stamp) + len(first))
    lines = wrapped(console, found.body + found.suffix, len(indent))
    shown = Text(stamp, style="dim")
    shown.append(first + lines[0], style=style)
    for line in lines[1:]:
        shown.append(f"\n{indent}{line}" if line else "\n", style=style)
    console.print(shown, soft_wrap=True)


def wrapped(console: Console, body: str, indent: int = 0) -> list[str]:
    """Return the lines of a text, wrapped to the width of the terminal if there is one. Words are not broken."""
    if not console.is_terminal:
        return body.split("\n")
    width = max(20, console.width - indent)
    return [part for line in body.split("\n") for part in text.at_spaces(line.expandtabs(8), width)]
