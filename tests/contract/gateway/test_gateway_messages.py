"""What is said to a running task reaches its runtime: in order, all of it on each new stream, and nobody else's."""

from komputer.protocol import wire
from tests.contract.gateway.world import Lines, Runner, World


async def say(world: World, agent: Runner, content: str) -> str:
    said = await world.log.message(agent.key, agent.task, content)
    assert said is not None
    return said.id


async def next_message(lines: Lines) -> tuple[str, str, str]:
    while True:
        line = await lines.next()
        assert line is not None, "the stream has ended"
        if line["type"] == "message":
            message = wire.TaskMessage.model_validate(line)
            return message.id, message.task_id, message.content


async def test_a_message_is_handed_over_at_once_and_again_on_each_new_stream(world: World) -> None:
    ada = await world.agent()
    await ada.start()
    async with ada.assignments() as lines:
        await lines.next_assignment()
        first = await say(world, ada, "one")
        assert await next_message(lines) == (first, ada.task, "one")
        second = await say(world, ada, "two")
        assert await next_message(lines) == (second, ada.task, "two")
    async with ada.assignments() as lines:
        assert await next_message(lines) == (first, ada.task, "one")
        assert await next_message(lines) == (second, ada.task, "two")


async def test_a_completion_says_what_it_has_heard(world: World) -> None:
    ada = await world.agent()
    await ada.start()
    said = await say(world, ada, "one")
    end = ada.event("task_completed", result="Hello.", cost_usd=0.01, duration_ms=1, turns=1)
    assert (await ada.tell({**end, "ackedMessageId": "0-0"})).json() == {"answers": ["unacknowledged"]}
    assert (await ada.tell({**end, "ackedMessageId": "nonsense"})).status_code == 400
    assert (await ada.tell({**end, "ackedMessageId": said})).json() == {"answers": ["ok"]}


async def test_an_agent_does_not_speak_to_itself(world: World) -> None:
    ada = await world.agent()
    await ada.start()
    refused = await ada.tell(ada.event("user_message", content="I command you.", steer=True))
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_event")


async def test_a_runtime_of_format_1_is_understood_and_answered_in_its_words(world: World) -> None:
    ada = await world.agent()
    await ada.start()
    said = await say(world, ada, "one")

    async def tell(n: int, **end: str) -> list[str]:
        payload = {"task_id": ada.task, "result": "Hello.", "cost_usd": 0.01, "duration_ms": 1, "turns": 1}
        event = {"n": n, "type": "task_completed", "payload": payload, **end}
        answers: list[str] = (await ada.post("/v1/events", {"term": ada.term, "events": [event]})).json()["answers"]
        return answers

    assert await tell(9, heard=said) == ["hole"]
    assert await tell(2, heard="0-0") == ["unheard"]
    assert await tell(2, heard=said) == ["ok"]
    pulse = await ada.post("/v1/heartbeat", {"term": ada.term, "tasks": []})
    assert pulse.json()["taken"] == 2
