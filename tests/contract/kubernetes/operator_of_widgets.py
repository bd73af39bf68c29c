"""A small operator for `test_kopf.py`: prints one line per event that it handles, and posts an Event."""

import os
from typing import Any

import kopf

GROUP = os.environ["WIDGET_GROUP"]


def report(*words: object) -> None:
    print("saw", *words, flush=True)


@kopf.on.startup()
def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
    settings.posting.enabled = True
    settings.scanning.disabled = True


@kopf.on.event(GROUP, "v1", "widgets")
def on_event(name: str, event: kopf.RawEvent, **_: Any) -> None:
    report("event", event["type"], name)


@kopf.on.create(GROUP, "v1", "widgets")
def created(name: str, body: kopf.Body, patch: kopf.Patch, **_: Any) -> None:
    report("create", name)
    patch.status["phase"] = "Ready"
    kopf.info(body, reason="Greeted", message=f"Hello {name}.")


@kopf.on.update(GROUP, "v1", "widgets", field="spec.size")
def resized(name: str, new: object, **_: Any) -> None:
    report("size", name, new)


@kopf.on.delete(GROUP, "v1", "widgets")
def deleted(name: str, **_: Any) -> None:
    report("delete", name)
