"""A flood of questions about objects that are not there is none for the Kubernetes API, and no answer is too old."""

import asyncio

import pytest

from komputer.domain.errors import NotFound, Unavailable
from komputer.kube import lookups
from komputer.kube.lookups import BURST, MAX_WAITING, PER_SECOND, Lookups


class Server:
    def __init__(self) -> None:
        self.asked: list[str] = []
        self.there: set[str] = set()
        self.answers = asyncio.Event()
        self.answers.set()
        self.second = asyncio.Event()

    async def has(self, name: str) -> bool:
        self.asked.append(name)
        if len(self.asked) == 2:
            self.second.set()
        found = name in self.there  # as it was when the question came
        await self.answers.wait()
        return found


async def test_what_was_made_before_the_question_is_found_however_often_it_was_asked_for() -> None:
    server = Server()
    found = Lookups(server.has)
    assert await found.get("ada") is False
    server.answers.clear()
    earlier = asyncio.create_task(found.get("ada"))
    async with asyncio.timeout(10):
        await server.second.wait()
    server.there.add("ada")
    later = asyncio.create_task(found.get("ada"))
    await asyncio.sleep(0)
    server.answers.set()
    assert (await earlier, await later) == (False, True)


async def test_many_who_ask_for_the_same_share_a_question() -> None:
    server = Server()
    found = Lookups(server.has)
    for _ in range(3):
        await asyncio.gather(*(found.get("ada") for _ in range(500)))
    assert len(server.asked) == 3


async def test_a_flood_of_names_is_held_back_and_then_refused() -> None:
    server = Server()
    found = Lookups(server.has)
    started = asyncio.get_running_loop().time()
    asking = [asyncio.create_task(found.get(f"nobody-{n}")) for n in range(MAX_WAITING + 200)]
    await asyncio.sleep(0.2)
    spent = asyncio.get_running_loop().time() - started
    assert BURST <= len(server.asked) <= BURST + spent * PER_SECOND + 1
    refused = [task for task in asking if task.done() and isinstance(task.exception(), Unavailable)]
    assert len(refused) == 200
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
    for task in list(found._waiting.values()):
        task.cancel()
    await asyncio.sleep(0)
    assert not found._waiting


async def test_a_failure_is_told_to_who_asked_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "SAME_KEY_INTERVAL_S", 0.0)
    answers = iter([NotFound("no"), None])

    async def ask(_: str) -> str:
        if error := next(answers):
            raise error
        return "there"

    found = Lookups(ask)
    with pytest.raises(NotFound):
        await found.get("ada")
    assert await found.get("ada") == "there"
