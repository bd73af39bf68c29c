"""Show what each task of an agent cost."""

from shared import connect, result

with connect() as komputer:
    result(komputer, "spender", "Count to ten.")
    for task in komputer.get_agent_cost_breakdown("spender").tasks:
        print(f"{task.started_at}  ${task.cost_usd:.6f}  {task.turns} turns  {task.instruction}")
