"""Cancel a task that takes too long. The agent keeps its pod, its files and its conversation."""

import sys

from shared import connect, run

ENDLESS = sys.argv[1] if len(sys.argv) > 1 else "Run `tail -f /dev/null` and tell me what it prints."

with connect() as komputer:
    for event in run(komputer, "patient", ENDLESS):
        if event.type == "tool_call":
            print(komputer.cancel_agent_task("patient"))
    print("ended as", event.type)
    print("and still there:", komputer.get_agent("patient").status)
