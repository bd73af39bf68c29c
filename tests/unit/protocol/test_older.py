"""Runtimes and gateways of wire format 1, as they were recorded, work with those of the present format."""

import json
import sqlite3
from pathlib import Path
from typing import Any, Final

import pytest

from komputer.domain.base import WireModel
from komputer.protocol import wire
from komputer.runtime.gateway_client import _line, _numbered
from komputer.runtime.ledger import file_format, rules
from komputer.runtime.ledger.ledger import Ledger, Outgoing
from komputer.runtime.ledger.store import LedgerStore

RECORDED: Final = Path(__file__).parents[2] / "fixtures/format1"
"""Written by a runtime and a gateway of format 1."""
WIRE: Final[dict[str, Any]] = json.loads((RECORDED / "wire.json").read_text())


def sent(message: WireModel) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(message.model_dump_json(by_alias=True))
    return parsed


# ---- an old runtime and a new gateway ----


def test_requests_of_an_old_runtime_are_read() -> None:
    hello = wire.Hello.model_validate(WIRE["hello"])
    assert hello.format_version <= wire.FORMAT_VERSION
    assert (hello.term, len(hello.tasks)) == (7, 2)
    assert wire.Heartbeat.model_validate(WIRE["heartbeat"]).term == 7
    text, end = wire.Post.model_validate(WIRE["post"]).events
    assert (text.seq, text.acked_message_id) == (2, None)
    assert (end.seq, end.acked_message_id) == (3, "1764000001000-5")


@pytest.mark.parametrize("name", ["posted", "posted_gap"])
def test_an_old_runtime_is_answered_in_its_own_words(name: str) -> None:
    words = {"hole": "gap", "unheard": "unacknowledged"}
    answers: Any = [words.get(each, each) for each in WIRE[name]["answers"]]
    post = wire.Post.model_validate(WIRE["post"])
    assert sent(wire.Posted(answers=answers, format_version=post.format_version)) == WIRE[name]
    assert sent(wire.Posted(answers=answers)) == {"answers": answers}, "a present runtime gets the present words"


def test_an_old_runtime_finds_the_names_that_it_knows() -> None:
    pulse = wire.Pulse(term=7, last_seq=2, ended=["01K99999999999999999999999"])
    assert sent(pulse).items() >= WIRE["pulse"].items()
    assert wire.Pulse(term=7, last_seq=2).to_wire().items() >= WIRE["line"].items()
    task = "01KAAAAAAAAAAAAAAAAAAAAAAA"
    welcome = wire.Welcome(uid="uid-1", term=8, last_seq=1, started=[task], ended=[], open=[task])
    assert sent(welcome).items() >= WIRE["welcome"].items()


# ---- a new runtime and an old gateway ----


def test_answers_of_an_old_gateway_are_read() -> None:
    assert wire.Welcome.model_validate(WIRE["welcome"]).last_seq == 1
    assert wire.Pulse.model_validate(WIRE["pulse"]).last_seq == 2
    line = _line(json.dumps(WIRE["line"]).encode())
    assert isinstance(line, wire.Pulse)
    assert line.last_seq == 2
    assert wire.Posted.model_validate(WIRE["posted"]).answers == ["ok", "unacknowledged"]
    assert wire.Posted.model_validate(WIRE["posted_gap"]).answers == ["gap"]


def test_an_old_gateway_finds_the_names_that_it_knows() -> None:
    assert sent(rules.hello(Ledger(term=7))).items() >= {"formatVersion": 1, "term": 7}.items()
    for event, acked in zip(WIRE["post"]["events"], (None, "1764000001000-5"), strict=True):
        entry = Outgoing(event["n"], event["payload"]["task_id"], event["type"], event["payload"])
        assert _numbered(entry, acked).items() >= event.items()


# ---- an old ledger ----


def old_ledger(folder: Path) -> Path:
    path = folder / "ledger.db"
    db = sqlite3.connect(path)
    db.executescript((RECORDED / "ledger.sql").read_text())
    db.close()
    return path


def test_an_old_ledger_is_converted(tmp_path: Path) -> None:
    store = LedgerStore(old_ledger(tmp_path))
    ledger = store.ledger
    assert not store.was_unreadable
    assert (ledger.term, ledger.seq, [entry.seq for entry in ledger.outbox]) == (7, 2, [2])
    assert ledger.task
    assert (ledger.task.acked_message_id, ledger.task.has_unanswered_message) == ("1764000001000-5", True)
    assert list(ledger.owed) == ["01K99999999999999999999999"]
    store.save(rules.after_post(ledger, "ok"), durable=True)
    store.close()
    again = LedgerStore(tmp_path / "ledger.db")
    assert (again.was_unreadable, again.ledger) == (False, store.ledger)
    again.close()


def test_an_interrupted_conversion_leaves_the_old_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = old_ledger(tmp_path)
    with monkeypatch.context() as broken:
        broken.setattr(file_format, "_FROM_FORMAT_1", (*file_format._FROM_FORMAT_1, "SELECT * FROM nowhere"))
        with pytest.raises(sqlite3.OperationalError):
            file_format.open_file(path)
    store = LedgerStore(path)
    assert (store.was_unreadable, store.ledger.seq) == (False, 2)
    store.close()
