"""Share the events of an agent between two workers. Each event reaches one of them, whichever replica serves them."""

import threading

from shared import ENDS, connect, result

received: list[tuple[str, str]] = []
has_ended = threading.Event()


def work(name: str, events) -> None:
    for event in events:
        received.append((name, event.type))
        if event.type in ENDS:
            has_ended.set()


with connect() as komputer:
    result(komputer, "source", "Say something.")
    streams = {name: komputer.watch_agent("source", group="archive") for name in ("one", "two")}
    for name, stream in streams.items():
        threading.Thread(target=work, args=(name, stream), daemon=True).start()
    komputer.create_agent("source", "Say something else.")
    has_ended.wait(60)
    for name, kind in received:
        print(name, kind)
