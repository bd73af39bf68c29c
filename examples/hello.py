"""An agent, its first task, and what it does until the end."""

import os

from komputer_ai.client import KomputerClient

with KomputerClient(os.environ.get("KOMPUTER_URL", "http://127.0.0.1:8080")) as komputer:
    komputer.create_agent("hello", "Say hello to the reader of this example.")
    for event in komputer.watch_agent("hello"):
        print(event.timestamp, event.type, event.payload.content or event.payload.result or "")
        if event.type in ("task_completed", "task_cancelled", "error"):
            break
