"""What stands in the ledger is what a later runtime reads."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from komputer.events.schema import AgentText, TaskCompleted
from komputer.protocol import wire
from komputer.runtime.ledger import file_format, rules
from komputer.runtime.ledger.file_format import Held
from komputer.runtime.ledger.ledger import Ledger
from komputer.runtime.ledger.store import LedgerStore
from tests.unit.runtime.reference import World
from tests.unit.runtime.test_runtime_ledger import HAPPENINGS, PROGRESS, TASK

WELCOME = wire.Welcome(uid="uid-1", term=7, last_seq=0, started=[], ended=[], open=[])


def reopened(path: Path) -> Ledger:
    store = LedgerStore(path)
    ledger = store.ledger
    store.close()
    return ledger


def test_a_new_ledger_is_empty(tmp_path: Path) -> None:
    assert reopened(tmp_path / "a" / "ledger.db") == Ledger()
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "a" / "ledger.db").stat().st_mode & 0o777 == 0o600


def test_all_of_a_ledger_is_read_again(tmp_path: Path) -> None:
    ledger = rules.with_task(rules.after_hello(Ledger(), WELCOME, ()), replace(TASK, baseline_usd=0.1, cause="x"))
    ledger = rules.with_event(ledger, AgentText(task_id="t1", content="ä\ud83d"))
    end = TaskCompleted(task_id="t0", result="r", cost_usd=0.1, duration_ms=1, turns=1)
    ledger = replace(ledger, owed={"t0": rules.with_event(ledger, end).outbox[-1]}, closed=("t0",))
    store = LedgerStore(tmp_path / "ledger.db")
    store.save(ledger, durable=True)
    store.update_task(phase="acted")
    store.close()
    assert ledger.task
    assert reopened(tmp_path / "ledger.db") == replace(ledger, task=replace(ledger.task, phase="acted"))


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(st.one_of(PROGRESS, PROGRESS, PROGRESS, st.sampled_from(HAPPENINGS)), max_size=50))
def test_every_change_is_written_as_it_is(tmp_path_factory: pytest.TempPathFactory, steps: list[int | str]) -> None:
    path = tmp_path_factory.mktemp("ledger") / "ledger.db"
    store, world = LedgerStore(path), World()
    world.assign()
    for step in steps:
        if isinstance(step, int):
            world.progress(step)
        else:
            getattr(world, step)()
        store.save(world.ledger)
    store.close()
    assert reopened(path) == world.ledger


def test_who_waits_for_changes_is_told(tmp_path: Path) -> None:
    rings: list[int] = []
    store = LedgerStore(tmp_path / "ledger.db", lambda: rings.append(1))
    store.save(Ledger(seq=1))
    store.close()
    assert rings == [1]


def test_a_second_runtime_does_not_get_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_format, "LOCK_WAIT_S", 0.1)
    store = LedgerStore(tmp_path / "ledger.db")
    with pytest.raises(Held, match="locked"):
        LedgerStore(tmp_path / "ledger.db")
    store.close()


def test_a_newer_release_s_ledger_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    LedgerStore(tmp_path / "ledger.db").close()
    monkeypatch.setattr(file_format, "FORMAT_VERSION", 1)
    with pytest.raises(Held, match="format 2"):
        LedgerStore(tmp_path / "ledger.db")


def test_what_is_no_ledger_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"nonsense" * 1000)
    store = LedgerStore(tmp_path / "ledger.db")
    assert store.was_unreadable
    assert store.ledger == Ledger()
    store.close()
    assert (tmp_path / "ledger.db.unreadable").exists()


def test_a_field_of_an_older_or_newer_release_does_not_lose_the_rest(tmp_path: Path) -> None:
    store = LedgerStore(tmp_path / "ledger.db")
    store.save(replace(Ledger(uid="uid-1", seq=4), task=TASK))
    assert store._db
    store._db.execute("""INSERT INTO facts VALUES ('task.colour', '"red"'), ('mood', '1')""")
    store._db.execute("DELETE FROM facts WHERE name = 'task.crashes'")
    store.close()
    assert reopened(tmp_path / "ledger.db") == replace(Ledger(uid="uid-1", seq=4), task=TASK)


def test_a_full_disk_loses_nothing_and_is_caught_up_with(tmp_path: Path) -> None:
    store = LedgerStore(tmp_path / "ledger.db")
    store.save(rules.after_hello(Ledger(), WELCOME, ()))
    assert store._db
    store._db.execute("PRAGMA max_page_count = 5")
    before = store.ledger
    for n in range(40):
        store.save(rules.with_event(store.ledger, AgentText(task_id="t1", content=f"{n}" * 1000)))
    assert store.is_behind
    assert "full" in store.problem
    assert len(store.ledger.outbox) == 40
    assert not store.catch_up()
    store._db.execute("PRAGMA max_page_count = 100000")
    assert store.catch_up()
    assert not store.is_behind
    store.save(rules.with_event(store.ledger, AgentText(task_id="t1", content="after")))
    store.close()
    assert reopened(tmp_path / "ledger.db") == store.ledger != before


@pytest.mark.parametrize("damage", ["removed", "replaced", "a folder", "a pipe", "a link", "overwritten", "locked"])
def test_a_ledger_that_the_agent_damages_is_written_anew(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / ".komputer"
    path = folder / "ledger.db"
    store = LedgerStore(path)
    store.save(rules.with_task(rules.after_hello(Ledger(), WELCOME, ()), TASK))
    match damage:
        case "removed":
            shutil.rmtree(folder)
        case "replaced":
            shutil.rmtree(folder)
            folder.write_text("in the way")
        case "a folder":
            path.unlink()
            (path / "x").mkdir(parents=True)
        case "a pipe":
            path.unlink()
            os.mkfifo(path)
        case "a link":
            path.unlink()
            path.symlink_to("/dev/zero")
        case "overwritten":
            path.unlink()
            path.write_bytes(b"nonsense" * 1000)
        case "locked":
            path.unlink()
            path.mkdir(mode=0)
            folder.chmod(0)
    for _ in range(2):  # the first try may find damage, which it sets aside
        store.catch_up()
    assert not store.is_behind
    store.save(rules.with_event(store.ledger, AgentText(task_id="t1", content="after")))
    store.close()
    assert reopened(path) == store.ledger


def test_a_ledger_with_a_trigger_is_set_aside(tmp_path: Path) -> None:
    store = LedgerStore(tmp_path / "ledger.db")
    assert store._db
    store._db.execute("CREATE TRIGGER t AFTER INSERT ON facts BEGIN DELETE FROM facts; END")
    store.close()
    again = LedgerStore(tmp_path / "ledger.db")
    assert again.was_unreadable
    again.close()


def test_a_workspace_that_cannot_be_used_begins_an_empty_ledger_in_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way of the workspace")
    store = LedgerStore(tmp_path / "file" / ".komputer" / "ledger.db")
    assert store.is_behind
    assert "Not a directory" in store.problem
    store.save(replace(Ledger(uid="uid-1"), task=TASK))
    assert store.ledger.task == TASK
    store.close()
