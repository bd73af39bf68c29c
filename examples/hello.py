"""An agent, a task, and what it does until the end. A second run is the agent's second task."""

from shared import connect, run

with connect() as komputer:
    for event in run(komputer, "hello", "Say hello to the reader of this example."):
        print(event.timestamp, event.type, event.payload.content or event.payload.result or "")
