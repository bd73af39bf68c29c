"""What becomes of a request when the server is slow, busy, gone or odd."""

import asyncio
import json
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from komputer.domain.errors import Forbidden, Invalid, Unavailable
from komputer.kube import AGENTS, PODS, Cluster, ResourceExpired, WatchEvent
from tests.unit.kube.server import answer_json, answering, begin_stream, config, stream

POD = {"metadata": {"name": "ada-pod", "namespace": "team", "uid": "u1", "resourceVersion": "7"}}


async def test_a_read_is_tried_again_when_the_server_is_briefly_unable(tmp_path: Path) -> None:
    asked: list[str] = []

    async def answer(request: str, writer: asyncio.StreamWriter) -> None:
        asked.append(request)
        if len(asked) == 1:
            return await answer_json(writer, 503, {})
        if len(asked) == 2:
            return None
        return await answer_json(writer, 200, POD)

    async with answering(answer, tmp_path) as cluster:
        assert await cluster.get(PODS, "ada-pod", "team") == POD
    assert asked == ["GET /api/v1/namespaces/team/pods/ada-pod HTTP/1.1"] * 3


async def test_a_write_is_never_sent_twice(tmp_path: Path) -> None:
    asked: list[str] = []

    async def answer(request: str, writer: asyncio.StreamWriter) -> None:
        asked.append(request)

    async with answering(answer, tmp_path) as cluster:
        with pytest.raises(Unavailable, match="patch Pod team/ada-pod") as failed:
            await cluster.merge_patch(PODS, "ada-pod", "team", {"metadata": {}})
    assert len(asked) == 1
    assert failed.value.__cause__ is not None


async def test_a_refusal_is_not_asked_for_again(tmp_path: Path) -> None:
    asked: list[str] = []

    async def answer(request: str, writer: asyncio.StreamWriter) -> None:
        asked.append(request)
        status = {"kind": "Status", "reason": "Forbidden", "message": "no such right"}
        await answer_json(writer, 403, status)

    async with answering(answer, tmp_path) as cluster:
        with pytest.raises(Forbidden, match="no such right"):
            await cluster.get(PODS, "ada-pod", "team")
    assert len(asked) == 1


async def test_a_busy_server_says_when_to_come_again(tmp_path: Path) -> None:
    async def answer(request: str, writer: asyncio.StreamWriter) -> None:
        await answer_json(writer, 429, {}, "Retry-After: 9")

    async with answering(answer, tmp_path) as cluster:
        with pytest.raises(Unavailable) as failed:
            await cluster.get(PODS, "ada-pod", "team")
    assert failed.value.retry_after_s == 9


async def test_a_server_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    async def answer(request: str, writer: asyncio.StreamWriter) -> None:
        raise AssertionError("nobody asks")

    async with answering(answer, tmp_path):
        pass
    cluster = Cluster.connect(tmp_path / "kubeconfig")
    with pytest.raises(Unavailable, match="Cannot reach the Kubernetes API to list Pods in team"):
        await cluster.list(PODS, "team")
    await cluster.close()


async def test_an_answer_that_does_not_come_is_unavailable(tmp_path: Path) -> None:
    asked: list[str] = []

    async def answer(request: str, writer: asyncio.StreamWriter) -> None:
        asked.append(request)
        await asyncio.Event().wait()

    async with answering(answer, tmp_path) as cluster:
        cluster._http.timeout = 0.5
        with pytest.raises(Unavailable, match="did not answer in time") as failed:
            await cluster.get(PODS, "ada-pod", "team")
    assert failed.value.code == "timeout"
    assert len(asked) == 1, "what hangs is not asked a second time"


async def test_a_proxy_of_the_environment_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")

    async def answer(request: str, writer: asyncio.StreamWriter) -> None:
        await answer_json(writer, 200, POD)

    async with answering(answer, tmp_path) as cluster:
        assert await cluster.get(PODS, "ada-pod", "team") == POD


async def test_a_list_comes_in_pages_and_its_items_say_what_they_are(tmp_path: Path) -> None:
    asked: list[str] = []

    async def answer(request: str, writer: asyncio.StreamWriter) -> None:
        asked.append(request)
        more = {} if "continue=next" in request else {"continue": "next"}
        await answer_json(writer, 200, {"items": [POD], "metadata": {"resourceVersion": "9"} | more})

    async with answering(answer, tmp_path) as cluster:
        listing = await cluster.list(PODS, "team", labels="a=b")
    assert listing.items == [{"apiVersion": "v1", "kind": "Pod"} | POD] * 2
    assert listing.resource_version == "9"
    assert "limit=500" in asked[0]
    assert "labelSelector=a%3Db" in asked[1]


async def test_a_list_whose_pages_expire_is_made_in_one_piece(tmp_path: Path) -> None:
    async def answer(request: str, writer: asyncio.StreamWriter) -> None:
        if "continue=" in request:
            return await answer_json(writer, 410, {"kind": "Status", "reason": "Expired"})
        page: dict[str, Any] = {"resourceVersion": "9"} | ({"continue": "next"} if "limit=" in request else {})
        return await answer_json(writer, 200, {"items": [POD] if "limit=" in request else [POD, POD], "metadata": page})

    async with answering(answer, tmp_path) as cluster:
        assert len((await cluster.list(PODS)).items) == 2


async def watched(cluster: Cluster, *, timeout_s: int = 60) -> list[WatchEvent]:
    found: list[WatchEvent] = []
    async with aclosing(cluster.watch(AGENTS, resource_version="5", timeout_s=timeout_s)) as events:
        async for event in events:
            found.append(event)
    return found


async def test_a_watch_begins_with_a_bookmark_and_joins_what_the_network_cut(tmp_path: Path) -> None:
    line = json.dumps({"type": "ADDED", "object": POD | {"text": "ü\u2028" * 10}}, ensure_ascii=False).encode() + b"\n"

    async def answer(request: str, writer: asyncio.StreamWriter) -> None:
        assert "resourceVersion=5" in request
        assert "allowWatchBookmarks=true" in request
        await begin_stream(writer)
        for part in (line[:30], line[30:-3], line[-3:] + line + b"\n"):
            await stream(writer, part)
        await stream(writer, b"")

    async with answering(answer, tmp_path) as cluster:
        events = await watched(cluster)
    assert [(event.type, event.manifest["metadata"]["resourceVersion"]) for event in events] == [
        ("BOOKMARK", "5"),
        ("ADDED", "7"),
        ("ADDED", "7"),
    ]
    assert events[1].manifest["text"] == "ü\u2028" * 10


@pytest.mark.parametrize("as_event", [True, False])
async def test_a_watch_of_a_forgotten_version_is_gone(tmp_path: Path, as_event: bool) -> None:
    status = {"kind": "Status", "reason": "Expired", "code": 410, "message": "too old resource version"}

    async def answer(request: str, writer: asyncio.StreamWriter) -> None:
        if not as_event:
            return await answer_json(writer, 410, status)
        await begin_stream(writer)
        await stream(writer, json.dumps({"type": "ERROR", "object": status}).encode() + b"\n")
        return None

    async with answering(answer, tmp_path) as cluster:
        with pytest.raises(ResourceExpired, match="too old resource version"):
            await watched(cluster)


async def test_a_watch_that_is_cut_off_is_unavailable(tmp_path: Path) -> None:
    async def answer(request: str, writer: asyncio.StreamWriter) -> None:
        await begin_stream(writer)
        await stream(writer, b'{"type": "ADDED", "obj')

    async with answering(answer, tmp_path) as cluster:
        with pytest.raises(Unavailable, match="watch KomputerAgents"):
            await watched(cluster)


async def test_an_event_that_cannot_be_posted_stops_nobody(tmp_path: Path) -> None:
    async def answer(request: str, writer: asyncio.StreamWriter) -> None:
        await answer_json(writer, 500, {})

    async with answering(answer, tmp_path) as cluster:
        pod = {"apiVersion": "v1", "kind": "Pod"} | POD
        await cluster.post_event(pod, "Warning", "Failed", "it failed", "test")


async def test_a_server_that_knows_no_audiences_is_not_believed(tmp_path: Path) -> None:
    async def answer(request: str, writer: asyncio.StreamWriter) -> None:
        await answer_json(writer, 201, {"status": {"authenticated": True, "user": {"username": "bob"}}})

    async with answering(answer, tmp_path) as cluster:
        assert await cluster.review_token("secret", "gateway") is None
        found = await cluster.review_token("secret")
        assert found is not None
        assert (found.username, found.pod_name) == ("bob", None)


async def test_no_token_is_nobody_and_nobody_is_asked(tmp_path: Path) -> None:
    asked: list[str] = []

    async def answer(request: str, writer: asyncio.StreamWriter) -> None:
        asked.append(request)

    async with answering(answer, tmp_path) as cluster:
        assert await cluster.review_token("", "gateway") is None
    assert asked == []


def test_an_unusable_kubeconfig_is_told_at_once(tmp_path: Path) -> None:
    for text in ("", "[]", "a: [", json.dumps(config("http://127.0.0.1:1") | {"current-context": "other"})):
        (tmp_path / "kubeconfig").write_text(text)
        with pytest.raises(Invalid, match="kubeconfig") as refused:
            Cluster.connect(tmp_path / "kubeconfig")
        assert refused.value.code == "kubeconfig"
    with pytest.raises(Invalid):
        Cluster.connect(tmp_path / "missing")


def test_outside_of_a_cluster_there_is_no_service_account() -> None:
    with pytest.raises(Invalid, match="service account"):
        Cluster.connect()


async def test_a_name_that_leads_elsewhere_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    asked: list[str] = []

    async def answer(request: str, writer: asyncio.StreamWriter) -> None:
        asked.append(request)

    async with answering(answer, tmp_path) as cluster:
        with pytest.raises(Invalid):
            await cluster.get(PODS, "../secrets/key", "team")
        with pytest.raises(Invalid):
            await cluster.create(PODS, {"metadata": {"name": "x", "namespace": "../.."}})
    assert asked == []
