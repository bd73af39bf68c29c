"""Tasks are named, waited for, cancelled, ended and counted once, whatever dies."""

import asyncio
import random
from decimal import Decimal

from redis.asyncio import Redis

from komputer.domain.agent import digest_of
from komputer.domain.ref import ObjectRef
from komputer.events.schema import TaskCancelled
from komputer.kube import AGENTS, CLUSTER_TEMPLATES, PODS
from komputer.operator import OperatorSettings
from komputer.operator.agent.reconcile import Reconciler
from komputer.operator.cluster_state import ClusterState
from tests.contract.operator.world import (
    Operator,
    World,
    completed,
    deadline,
    reason_of,
    running,
    runtime,
    started,
    total,
    waiting,
)
from tests.fixtures.valkey import LogServer
from tests.waiting import eventually


async def test_rule_create_the_first_manifest_task_is_the_task_that_the_api_created(
    operator: Operator, world: World
) -> None:
    task = "01KGBW8000000000000000000A"
    await world.apply(task={"id": task, "instructions": "A", "covers": {"digest": digest_of("A")}})
    assert await world.until_recorded("A") == task


async def test_an_edit_is_a_new_task_and_so_is_the_edit_back(operator: Operator, world: World) -> None:
    await world.apply()
    first = await world.until_recorded("A")
    await world.change({"instructions": "B"})
    second = await world.until_recorded("B")
    await world.change({"instructions": "A"})
    third = await world.until_recorded("A")
    assert len({first, second, third}) == 3
    await world.change({"instructions": "A", "model": "claude-other"})
    agent = await world.until_status(lambda a: a.status.observed_generation == 4)
    assert agent.status.manifest_task
    assert agent.status.manifest_task.id == third, "re-applied instructions start nothing"


async def test_a_running_task_shows_in_the_status_and_its_end_is_accounted(operator: Operator, world: World) -> None:
    await world.apply()
    task = await world.until_recorded()
    await world.pod_says(running())
    speaking = await runtime(world)
    assert await speaking.says(started(task)) == ["ok"]
    agent = await world.until_reason("TaskRunning", kind="TaskStarted")
    assert (agent.status.task_status, agent.status.last_task_id) == ("InProgress", task)
    assert await speaking.says(completed(task, 0.0125)) == ["ok"]
    agent = await world.until_accounted(task)
    status = agent.status
    assert (status.task_status, status.last_task_outcome, status.last_task_message) == ("Complete", "completed", "done")
    assert (status.last_task_cost_usd, status.total_cost_usd, status.session_id) == ("0.0125", "0.0125", "session-1")
    assert reason_of(agent, "TaskStarted") == "NoTask"


async def test_accounted_ends_are_forgotten_by_the_log(operator: Operator, world: World) -> None:
    await world.apply()
    task = await world.until_recorded()
    speaking = await runtime(world)
    await speaking.says(started(task), completed(task))
    await world.until_accounted(task)
    key = await world.key()

    async def are_forgotten() -> bool:
        return not await world.log.ends_after(key, None)

    await eventually(are_forgotten)


async def test_an_end_repeated_by_a_log_that_lost_it_is_counted_once(
    operator: Operator, world: World, valkey: LogServer, prefix: str
) -> None:
    """The log forgets all; the runtime, which owes the end until it is shown accounted, tells it again."""
    await world.apply()
    first = await world.until_recorded()
    speaking = await runtime(world)
    await speaking.says(started(first), completed(first, 0.5))
    status = (await world.until_accounted(first)).status
    async with Redis.from_url(valkey.url) as redis:
        await redis.delete(*await redis.keys(f"{prefix}*:{world.namespace}:ada"))
    await speaking.hello(floor=status.last_event_id)
    second = await world.assign()
    assert await speaking.says(completed(first, 0.5), started(second), completed(second, 0.25)) == ["ok"] * 3
    agent = await world.until_accounted(second)
    assert agent.status.total_cost_usd == "0.7500"
    assert agent.status.ended_tasks == [first, second]


async def test_cancelling_a_task_that_nobody_has_started_ends_it_at_once(operator: Operator, world: World) -> None:
    await world.apply()
    task = await world.until_recorded()
    await world.change({"cancelTaskID": task})
    agent = await world.until_accounted(task)
    assert (agent.status.task_status, agent.status.last_task_outcome) == ("Complete", "cancelled")
    assert [kind for kind, _ in await world.events()] == ["task_cancelled"]
    speaking = await runtime(world)
    assert await speaking.says(started(task)) == ["ended"], "a runtime that comes late is told"


async def test_cancelling_a_started_task_is_left_to_its_living_runtime(operator: Operator, world: World) -> None:
    await world.apply()
    task = await world.until_recorded()
    await world.pod_says(running())
    speaking = await runtime(world)
    await speaking.says(started(task))
    await world.until_reason("TaskRunning", kind="TaskStarted")
    generation = (await world.change({"cancelTaskID": task}))["metadata"]["generation"]
    await world.until_status(lambda a: a.status.observed_generation == generation)
    assert [kind for kind, _ in await world.events()] == ["task_started"]


async def test_a_started_and_cancelled_task_without_a_pod_is_ended(operator: Operator, world: World) -> None:
    await world.apply(templateRef="later")
    task = await world.until_recorded()
    speaking = await runtime(world)
    await speaking.says(started(task))
    await world.change({"cancelTaskID": task})
    agent = await world.until_accounted(task)
    assert agent.status.last_task_outcome == "cancelled"
    assert [kind for kind, _ in await world.events()] == ["task_started", "task_cancelled"]


async def test_a_started_task_whose_pod_is_gone_gets_a_new_pod_and_no_end(operator: Operator, world: World) -> None:
    await world.apply()
    task = await world.until_recorded()
    pod = await world.until(PODS, "ada-pod", lambda _: True)
    await world.pod_says(running())
    speaking = await runtime(world)
    await speaking.says(started(task))
    await world.until_reason("TaskRunning", kind="TaskStarted")
    await world.cluster.delete(PODS, "ada-pod", world.namespace, grace_s=0)
    await world.until(PODS, "ada-pod", lambda m: bool(m["metadata"]["uid"] != pod["metadata"]["uid"]))
    assert [kind for kind, _ in await world.events()] == ["task_started"]
    await speaking.hello()
    assert await speaking.says(completed(task)) == ["ok"]
    await world.until_accounted(task)


async def test_a_missing_template_is_a_condition_until_it_appears(operator: Operator, world: World) -> None:
    await world.apply(templateRef="later")
    agent = await world.until_reason("TemplateMissing")
    assert agent.status.phase == "Pending"
    assert await world.find(PODS, "ada-pod") is None
    await world.template("later")
    await world.until(PODS, "ada-pod", lambda _: True)
    await world.until_pod_waits()


async def test_a_cluster_template_that_appears_is_picked_up_too(operator: Operator, world: World) -> None:
    name = f"late-{world.namespace}"
    await world.apply(templateRef=name)
    await world.until_reason("TemplateMissing")
    spec = {"podSpec": {"containers": [{"name": "agent", "image": "komputer-agent"}]}}
    await world.cluster.create(CLUSTER_TEMPLATES, {"metadata": {"name": name}, "spec": spec})
    await world.until(PODS, "ada-pod", lambda _: True)


async def test_a_template_that_the_api_server_refuses_is_a_condition(operator: Operator, world: World) -> None:
    await world.template("odd", {"containers": [{"name": "Not A Name", "image": "komputer-agent"}]})
    await world.apply(templateRef="odd")
    await world.until_status(lambda a: reason_of(a) in ("PodRefused", "TemplateInvalid"))


async def test_a_task_that_no_pod_can_take_ends_with_an_error_after_the_deadline(
    operator: Operator, world: World
) -> None:
    async with deadline(world.cluster, 1):
        await world.apply(templateRef="never")
        task = await world.until_recorded()
        agent = await world.until_accounted(task)
        assert (agent.status.task_status, agent.status.last_task_outcome) == ("Error", "error")
        agent = await world.until_status(lambda a: a.status.phase == "Failed")
        [(kind, payload)] = await world.events()
        assert (kind, payload["code"], payload["task_id"]) == ("error", "template_missing", task)
        second = await world.assign()
        await world.until_accounted(second)
    assert [payload["task_id"] for _, payload in await world.events()] == [task, second]


async def test_each_trouble_of_a_pod_is_a_condition_and_then_an_error_with_its_code(
    operator: Operator, world: World
) -> None:
    troubles = {
        "ImagePullFailed": (waiting("ImagePullBackOff", "no such image"), "image_pull_failed"),
        "CrashLoopBackOff": (waiting("CrashLoopBackOff", restarts=5), "crash_loop"),
        "CreateContainerError": (waiting("CreateContainerConfigError", "no secret"), "container_create_failed"),
        "Unschedulable": (
            {
                "phase": "Pending",
                "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}],
            },
            "unschedulable",
        ),
    }
    await asyncio.gather(*(world.apply(f"a{n}") for n in range(len(troubles))))
    for n, (reason, (status, _)) in enumerate(troubles.items()):
        await world.until(PODS, f"a{n}-pod", lambda _: True)
        await world.pod_says(status, f"a{n}")
        await world.until_reason(reason, f"a{n}")
    async with deadline(world.cluster, 1):
        for n, (_, code) in enumerate(troubles.values()):
            await world.until_status(lambda a: a.status.last_task_outcome == "error", f"a{n}")
            [(_, payload)] = await world.events(f"a{n}")
            assert payload["code"] == code
            assert await world.find(PODS, f"a{n}-pod"), "the pod stays: it may yet run"


async def test_ends_of_a_time_without_operator_are_accounted_when_it_is_back(operator: Operator, world: World) -> None:
    await world.apply()
    first = await world.until_recorded()
    operator.kill()
    speaking = await runtime(world)
    await speaking.says(started(first), completed(first, 0.1))
    second = await world.assign()
    await speaking.says(started(second), completed(second, 0.2))
    operator.start()
    agent = await world.until_accounted(first, second)
    assert agent.status.total_cost_usd == "0.3000"


async def test_the_log_of_an_unknown_agent_stays_until_its_name_is_taken_again(
    operator: Operator, world: World
) -> None:
    """An agent that the Kubernetes API does not know may come back with a backup."""
    await world.apply()
    task = await world.until_recorded()
    key = await world.key()
    speaking = await runtime(world)
    await speaking.says(started(task))
    operator.kill()
    await world.delete()
    await world.until_gone(AGENTS, "ada")
    operator.start()
    await world.apply("eve")
    await world.until_pod_waits("eve")
    assert await world.log.live(key.namespace, key.name) is not None
    operator.kill()
    await world.apply()
    operator.start()
    async for _ in world.log.notifications():
        if await world.log.live(key.namespace, key.name) is None:
            break
    assert await speaking.says(completed(task)) == ["fenced"]


async def test_an_operator_killed_at_any_moment_counts_every_cost_once(operator: Operator, world: World) -> None:
    rng = random.Random(7)
    await world.apply()
    first = await world.until_recorded()
    speaking = await runtime(world)
    await speaking.says(started(first), completed(first, 0.001))
    costs, tasks = [0.001], [first]
    for _ in range(4):
        for _ in range(5):
            task = await world.assign()
            cost = round(rng.uniform(0.0001, 3), 7)
            assert await speaking.says(started(task), completed(task, cost)) == ["ok", "ok"]
            costs.append(cost)
            tasks.append(task)
        await asyncio.sleep(rng.uniform(0, 0.06))
        operator.kill()
        operator.start()
    agent = await world.until_accounted(*tasks)
    assert agent.status.total_cost_usd
    assert Decimal(agent.status.total_cost_usd) == total(costs)
    assert agent.status.ended_tasks == tasks


async def test_a_cancel_survives_an_operator_that_dies_right_after_the_end(operator: Operator, world: World) -> None:
    """Killed between the log's answer and the status: the end stands, and is not written again."""
    await world.apply()
    task = await world.until_recorded()
    operator.kill()
    key, agent = await world.key(), await world.agent()
    await world.change({"cancelTaskID": task})
    answer = await world.log.end(
        key,
        TaskCancelled(task_id=task, reason="before it had started"),
        generation=agent.metadata.generation,
        floor=None,
        unless_started=True,
    )
    assert answer == "ok"
    operator.start()
    await world.until_accounted(task)
    assert [kind for kind, _ in await world.events()] == ["task_cancelled"]


async def test_rule_guard_a_status_computed_from_an_old_copy_is_not_written(
    operator_process: Operator, world: World
) -> None:
    """A slow replica: it has seen the instructions A, and they are B."""
    if operator_process.is_running:
        operator_process.kill()
    old = await world.apply()
    await world.change({"instructions": "B"})
    store = ClusterState(world.cluster, None, wake=lambda *_: None)
    store.read(AGENTS, old)
    slow = Reconciler(OperatorSettings(), world.cluster, world.log, store)
    await slow.reconcile(ObjectRef(world.namespace, "ada"))
    assert (await world.agent()).status.manifest_task is None
    await slow.reconcile(ObjectRef(world.namespace, "ada"))
    await world.until_recorded("B")


async def test_nothing_is_written_on_agents_but_their_status(operator: Operator, world: World) -> None:
    """No finalizer, no annotation: `kubectl delete` never waits for us."""
    before = await world.apply()
    await world.until_recorded()
    await world.until_pod_waits()
    after = await world.cluster.get(AGENTS, "ada", world.namespace)
    assert after["spec"] == before["spec"]
    changing = ("resourceVersion", "managedFields")
    told = [{k: v for k, v in m["metadata"].items() if k not in changing} for m in (before, after)]
    assert told[0] == told[1]
