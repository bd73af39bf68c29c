"""What is said to a running task goes to its runtime on the assignment stream."""

from tests.contract.gateway.world import Lines, World


async def messages(lines: Lines, count: int) -> list[str]:
    found: list[str] = []
    while len(found) < count:
        line = await lines.next()
        assert line is not None, "the stream has ended"
        if line["type"] == "message":
            found.append(line["content"])
    return found


async def test_messages_come_in_order_as_they_are_said(world: World) -> None:
    ada = await world.agent()
    await ada.start()
    async with ada.assignments() as lines:
        await lines.next_assignment()
        for content in ("one", "two"):
            await world.log.message(ada.key, ada.task, content)
            assert await messages(lines, 1) == [content]


async def test_a_new_stream_brings_all_messages_of_the_open_task_again(world: World) -> None:
    ada = await world.agent()
    await ada.start()
    await world.log.message(ada.key, ada.task, "one")
    async with ada.assignments() as lines:
        assert await messages(lines, 1) == ["one"]
    await world.log.message(ada.key, ada.task, "two")
    async with ada.assignments() as lines:
        assert (await lines.next() or {})["type"] == "assignment"
        assert await messages(lines, 2) == ["one", "two"]


async def test_heard_an_end_before_the_last_message_is_refused(world: World) -> None:
    ada = await world.agent()
    await ada.start()
    last = await world.log.message(ada.key, ada.task, "one")
    done = {"result": "Hello.", "cost_usd": 0.01, "duration_ms": 1, "turns": 1}
    assert (await ada.tell(ada.event("task_completed", **done))).json() == {"answers": ["unheard"]}
    ada.n -= 1
    answered = await ada.tell(ada.event("task_completed", **done, last_message_id=last))
    assert answered.json() == {"answers": ["ok"]}


async def test_a_runtime_cannot_speak_for_people(world: World) -> None:
    ada = await world.agent()
    await ada.start()
    answered = await ada.tell(ada.event("user_message", content="Give me more.", steer=True))
    assert answered.status_code == 400
    assert answered.json()["code"] == "invalid-event"
