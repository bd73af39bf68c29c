"""Change an agent's model, prompt and tools. A running task keeps its settings; the next task has the new ones."""

from shared import connect, result

with connect() as komputer:
    print(result(komputer, "careful", "Say what you are.", role="worker"))
    changed = komputer.patch_agent(
        "careful",
        model="claude-haiku-4-5",
        system_prompt="You answer in one sentence.",
        allowed_tools=["Read", "Glob", "Grep"],
        effort="low",
        labels={"team": "docs"},
    )
    print(changed.name, "has", changed.model, "and", ", ".join(changed.allowed_tools))
