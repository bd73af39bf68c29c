"""A task that takes too long is cancelled; the agent keeps its pod, its files and its conversation."""

import os
import sys
import time

from komputer_ai.client import KomputerClient

ENDLESS = sys.argv[1] if len(sys.argv) > 1 else "Run `tail -f /dev/null` and tell me what it prints."

with KomputerClient(os.environ.get("KOMPUTER_URL", "http://127.0.0.1:8080")) as komputer:
    komputer.create_agent("patient", ENDLESS)
    while not any(event["type"] == "tool_call" for event in komputer.get_agent_events("patient")["events"]):
        time.sleep(0.2)
    print(komputer.cancel_agent_task("patient"))
    while komputer.get_agent("patient").task_status == "InProgress":
        time.sleep(0.2)
    print("ended as", komputer.get_agent_events("patient")["events"][-1]["type"])
    print("and still there:", komputer.get_agent("patient").status)
