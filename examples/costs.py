"""What each task of an agent cost."""

import os

from komputer_ai.client import KomputerClient

with KomputerClient(os.environ.get("KOMPUTER_URL", "http://127.0.0.1:8080")) as komputer:
    komputer.create_agent("spender", "Count to ten.")
    for event in komputer.watch_agent("spender"):
        if event.type in ("task_completed", "task_cancelled", "error"):
            break
    costs = komputer.get_agent_cost_breakdown("spender")
    for task in costs.tasks:
        print(f"{task.started_at}  ${task.cost_usd:.6f}  {task.turns} turns  {task.instruction}")
