"""Two workers share an agent's events: each event reaches one of them, whichever API replica it is connected to."""

import os
import threading

from komputer_ai.client import KomputerClient

seen: list[tuple[str, str]] = []
has_ended = threading.Event()


def work(name: str, events) -> None:
    for event in events:
        seen.append((name, event.type))
        if event.type in ("task_completed", "task_cancelled", "error"):
            has_ended.set()


with KomputerClient(os.environ.get("KOMPUTER_URL", "http://127.0.0.1:8080")) as komputer:
    komputer.create_agent("source", "Say something.")
    for event in komputer.watch_agent("source"):
        if event.type in ("task_completed", "task_cancelled", "error"):
            break
    streams = {name: komputer.watch_agent("source", group="archive") for name in ("one", "two")}
    for name, stream in streams.items():
        threading.Thread(target=work, args=(name, stream), daemon=True).start()
    komputer.create_agent("source", "Say something else.")
    has_ended.wait(60)
    for name, kind in seen:
        print(name, kind)
