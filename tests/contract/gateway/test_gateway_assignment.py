"""The assignment stream: the whole at once, again at each change, alive in between, ended when it is over."""

import base64

import pytest
from ulid import ULID

from komputer.domain.agent import digest_of
from komputer.kube import AGENTS, SECRETS
from komputer.protocol.wire import Assignment
from tests.contract.gateway.world import World


def has_task(told: Assignment) -> bool:
    """All that made the agent is known: its status comes last."""
    return told.task is not None


async def test_the_whole_assignment_comes_first(world: World) -> None:
    ada = await world.agent(role="worker", systemPrompt="Be brief.")
    async with ada.assignments() as lines:
        assert lines.response.headers["content-type"] == "application/x-ndjson"
        told = await lines.until(has_task)
    assert told.task is not None
    assert (told.uid, told.task.id, told.task.instructions) == (ada.key.uid, ada.task, "Say hello.")
    assert (told.settings.role, told.settings.system_prompt) == ("worker", "Be brief.")


async def test_a_task_that_the_api_assigns_is_told_at_once(world: World) -> None:
    ada = await world.agent()
    await world.patch_status(endedTasks=[ada.task])
    async with ada.assignments() as lines:
        first = await lines.until(lambda told: told.accounted == [ada.task])
        assert first.task is None
        task = {"id": str(ULID()), "instructions": "Count.", "covers": {"digest": digest_of("Say hello.")}}
        await world.patch_spec(task=task)
        second = await lines.next_assignment()
        assert second.task is not None
        assert (second.task.id, second.task.instructions) == (task["id"], "Count.")
        assert second.generation > first.generation


async def test_a_cancel_and_a_status_that_accounts_a_task_are_told(world: World) -> None:
    ada = await world.agent()
    async with ada.assignments() as lines:
        await lines.until(has_task)
        await world.patch_spec(cancelTaskID=ada.task)
        assert (await lines.next_assignment()).cancel_task_id == ada.task
        await world.patch_status(endedTasks=[ada.task])
        told = await lines.next_assignment()
        assert told.accounted == [ada.task]
        assert told.task is None


@pytest.mark.parametrize("name", ["", "a/b", "a b", "..", "ä" * 300, "not-there"])
async def test_a_secret_that_cannot_be_there_is_left_out_and_the_agent_hears_of_its_task_and_cancel(
    world: World, name: str
) -> None:
    data = {"key": base64.b64encode(b"value").decode()}
    metadata = {"name": "good", "namespace": world.namespace}
    await world.cluster.create(SECRETS, {"metadata": metadata, "type": "Opaque", "data": data})
    ada = await world.agent(secrets=[name, "good"])
    async with ada.assignments() as lines:
        told = await lines.next_assignment()
        assert told.task is not None
        assert (told.task.id, told.environment) == (ada.task, {"SECRET_GOOD_KEY": "value"})
        await world.patch_spec(cancelTaskID=ada.task)
        assert (await lines.next_assignment()).cancel_task_id == ada.task


async def test_a_change_that_changes_no_assignment_is_not_told(world: World) -> None:
    ada = await world.agent()
    async with ada.assignments() as lines:
        await lines.until(has_task)
        await world.patch_status(lastTaskMessage="Calling Bash: ls")
        await world.patch_spec(model="claude-opus-5-5")
        assert (await lines.next_assignment()).settings.model == "claude-opus-5-5"


@pytest.mark.parametrize("heartbeat_s", [0.05])
async def test_while_nothing_happens_it_says_what_the_log_holds(world: World) -> None:
    ada = await world.agent()
    await ada.start()
    before = await world.log.live(ada.key.namespace, ada.key.name)
    async with ada.assignments() as lines:
        await lines.until(has_task)
        for _ in range(3):
            assert await lines.next() == {"type": "pulse", "term": ada.term, "lastSeq": 1, "taken": 1, "ended": []}
    after = await world.log.live(ada.key.namespace, ada.key.name)
    assert before == after, "the stream is no sign of the runtime's life"


async def test_it_ends_when_the_agent_is_deleted_and_does_not_come_again(world: World) -> None:
    ada = await world.agent()
    await world.hold("ada")
    async with ada.assignments() as lines:
        await lines.next_assignment()
        await world.cluster.delete(AGENTS, "ada", world.namespace)
        await lines.until_ended()
    async with ada.assignments() as lines:
        assert lines.response.status_code == 410
        assert lines.response.json()["code"] == "agent_gone"


async def test_it_ends_when_its_pod_is_no_longer_the_agents(world: World) -> None:
    ada = await world.agent()
    async with ada.assignments() as lines:
        await lines.next_assignment()
        await world.delete_pod("ada-pod")
        await lines.until_ended()
    newer = type(ada)(world, ada.manifest, await world.pod(ada.manifest), ada.task)
    async with newer.assignments() as lines:
        assert (await lines.next_assignment()).uid == ada.key.uid


async def test_of_two_connections_the_newer_one_has_the_stream(world: World) -> None:
    ada = await world.agent()
    async with ada.assignments() as older:
        await older.next_assignment()
        async with ada.assignments() as newer:
            await newer.until(has_task)
            await older.until_ended()
            await world.patch_spec(systemPrompt="Be brief.")
            assert (await newer.next_assignment()).settings.system_prompt == "Be brief."


async def test_agents_are_told_their_own_only(world: World) -> None:
    ada, bob = await world.agent("ada"), await world.agent("bob")
    async with ada.assignments() as adas, bob.assignments() as bobs:
        assert (await adas.until(has_task)).name == "ada"
        assert (await bobs.until(has_task)).name == "bob"
        await world.patch_spec("bob", systemPrompt="For Bob.")
        await world.patch_spec("ada", systemPrompt="For Ada.")
        assert (await adas.next_assignment()).settings.system_prompt == "For Ada."
        assert (await bobs.next_assignment()).settings.system_prompt == "For Bob."


async def test_draining_ends_the_streams_and_opens_no_more(world: World) -> None:
    ada = await world.agent()
    async with ada.assignments() as lines:
        await lines.next_assignment()
        world.gateway.drain()
        await lines.until_ended()
    async with ada.assignments() as lines:
        assert lines.response.status_code == 503
