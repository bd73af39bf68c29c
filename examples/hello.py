"""Create an agent, give it a task, and print its events until the end. A second run gives it a second task."""

from shared import connect, run

with connect() as komputer:
    for event in run(komputer, "hello", "Say hello to the reader of this example."):
        print(event.timestamp, event.type, event.payload.content or event.payload.result or "")
