"""Writes to the ledger what happens in the open task, with secrets masked."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection, Iterable
from typing import Any

from komputer.domain.errors import Unavailable
from komputer.events.schema import End, Event
from komputer.runtime.ledger import rules
from komputer.runtime.ledger.ledger import OpenTask, PendingMessage
from komputer.runtime.ledger.store import LedgerStore
from komputer.runtime.masking import E, Mask

log = logging.getLogger(__name__)


class Recorder:
    """Writes the events of one runtime to its ledger. The secrets of each task are added to `mask`. `read_token`
    returns the pod's token, which changes while the runtime runs, or raises `Unavailable`."""

    def __init__(self, store: LedgerStore, read_token: Callable[[], str]) -> None:
        self.mask = Mask()
        self._store = store
        self._read_token = read_token

    def end(self, end: End) -> None:
        """End the open task."""
        self._store.save(rules.with_end(self._store.ledger, self._masked(end)), durable=True)
        log.info("task ended", extra={"task": end.task_id, "type": end.type, "cost_usd": end.cost_usd})

    def event(self, event: Event) -> None:
        """Record an event of the open task. Events of a task that was ended meanwhile are dropped."""
        if self.open_task(event.task_id):
            self._store.save(rules.with_event(self._store.ledger, self._masked(event)))

    def update(self, task_id: str, **changes: Any) -> None:
        """Change fields of the task if it is still open. Nothing is written if no value differs."""
        task = self.open_task(task_id)
        if task and any(getattr(task, name) != value for name, value in changes.items()):
            self._store.update_task(**changes)

    def open_task(self, task_id: str) -> OpenTask | None:
        """Return the task if it is still open, else None."""
        task = self._store.ledger.task
        return task if task and task.id == task_id and task.phase != "ended" else None

    def _masked(self, event: E) -> E:
        with contextlib.suppress(Unavailable):
            self.mask.learn({"TOKEN": self._read_token()})
        return self.mask.masked(event)


class AttemptRecorder:
    """Records what one attempt at a task reports (`attempt.AttemptObserver`), and which messages were sent to
    Claude."""

    def __init__(self, recorder: Recorder, task_id: str, sent: Iterable[str]) -> None:
        self._recorder = recorder
        self._task_id = task_id
        self._sent = set(sent)

    def on_event(self, event: Event) -> None:
        self._recorder.event(event)

    def on_step(self) -> None:
        self._recorder.update(self._task_id, barren=0)

    def on_cost(self, attempt_usd: float) -> None:
        self._recorder.update(self._task_id, attempt_usd=attempt_usd)
        log.debug("cost read", extra={"task": self._task_id, "attempt_usd": attempt_usd})

    def on_answer(self, unanswered: Collection[str]) -> None:
        """Record the last answered message: the one before the first message that was not sent or not answered."""
        task = self._recorder.open_task(self._task_id)
        if task is None:
            return
        acked = task.acked_message_id
        for message in task.messages:
            if message.id not in self._sent or message.uuid in unanswered:
                break
            acked = message.id
        self._recorder.update(self._task_id, acked_message_id=acked)

    def has_unsent_message(self) -> bool:
        return bool(self.unsent())

    def unsent(self) -> list[PendingMessage]:
        """Return the messages that were not sent to Claude yet, in order."""
        task = self._recorder.open_task(self._task_id)
        return [message for message in task.messages if message.id not in self._sent] if task else []

    def mark_sent(self, message: PendingMessage) -> None:
        self._sent.add(message.id)
