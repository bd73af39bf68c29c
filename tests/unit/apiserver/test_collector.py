"""The garbage collector survives a database that refuses writes."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from komputer.background import Background
from komputer.backoff import Backoff
from komputer.local.apiserver.collector import Collector
from komputer.local.apiserver.kinds import Registry
from komputer.local.apiserver.objects import Objects
from komputer.local.apiserver.options import DeleteOptions, WriteOptions
from komputer.local.apiserver.store import ObjectDatabase
from tests.waiting import eventually


async def test_objects_not_collected_on_a_full_disk_are_collected_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ObjectDatabase(tmp_path / "objects.db", history_length=10)
    registry = Registry()
    objects = Objects(store, registry)
    config_map = registry.by_resource("configmaps")
    assert config_map
    collector = Collector(objects)
    store.on_change = collector.enqueue
    objects.make_namespace("team")

    def make(name: str, **metadata: Any) -> dict[str, Any]:
        body = {"metadata": {"name": name, **metadata}}
        return objects.create(config_map, "team", body, WriteOptions()).object

    owner = make("owner")
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}
    make("owned", ownerReferences=[reference])
    commit, is_full = store._commit, True

    def failing(statement: str, values: tuple[Any, ...]) -> None:
        if is_full:
            raise sqlite3.OperationalError("database or disk is full")
        commit(statement, values)

    async with Background(Backoff(0.01, 10.0)) as background:
        background.run_forever("garbage collector", collector.run)
        is_full = False
        objects.delete(config_map, "team", "owner", DeleteOptions())
        is_full = True
        monkeypatch.setattr(store, "_commit", failing)
        await eventually(lambda: "full" in str(background.problem))
        assert store.get("configmaps", "team", "owned")
        is_full = False
        await eventually(lambda: store.get("configmaps", "team", "owned") is None)
    store.close()
