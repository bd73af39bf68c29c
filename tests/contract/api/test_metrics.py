"""What Prometheus finds: the names of the Go version, whose dashboards go on to work."""

import httpx

from tests.contract.api.conftest import served
from tests.contract.api.test_api import created, runtime
from tests.contract.gateway.world import World
from tests.waiting import eventually


def value(text: str, series: str) -> float:
    """Of a series, as it is written; 0 where there is none."""
    return next((float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(series + " ")), 0.0)


async def test_requests_are_counted_by_the_template_of_their_path(rest: httpx.AsyncClient) -> None:
    await rest.get("/agents/nobody")
    await rest.get("/agents/nobody-else")
    await rest.get("/nonsense/of-a-stranger")
    text = (await rest.get(str(rest.base_url).replace("/api/v1/", "/metrics"))).text
    series = 'komputer_api_http_requests_total{method="GET",path="%s",status="404"}'
    assert value(text, series % "/api/v1/agents/:name") == 2
    assert value(text, series % "unmatched") == 1
    assert "nobody" not in text
    assert "stranger" not in text
    seconds = 'komputer_api_http_request_duration_seconds_count{method="GET",path="/api/v1/agents/:name"}'
    assert value(text, seconds) == 2
    assert "komputer_api_build_info{version=" in text


async def test_caches_say_what_they_hold_and_that_they_are_followed(world: World) -> None:
    async with served(world.cluster, world.log, world) as rest:
        await created(rest)

        async def texts() -> list[str]:
            api = (await rest.get(str(rest.base_url).replace("/api/v1/", "/metrics"))).text
            return [api, world.gateway.metrics.text().decode()]

        async def both_hold_it() -> bool:
            named = list(zip(("api", "gateway"), await texts(), strict=True))
            held = [value(text, f'komputer_{part}_watch_objects{{kind="komputeragents"}}') for part, text in named]
            stale = [
                value(text, f'komputer_{part}_watch_stale_seconds{{kind="komputeragents"}}') for part, text in named
            ]
            return held[0] == held[1] >= 1 and stale == [0.0, 0.0]

        await eventually(both_hold_it)


async def test_agents_are_counted_by_phase_and_tasks_once(world: World) -> None:
    async with served(world.cluster, world.log, world) as rest:
        await created(rest)
        runner = await runtime(world)
        usage = {"input_tokens": 7, "output_tokens": 5}
        ran = {"id": "t", "tool": "Bash", "input": {}, "output": "", "is_error": False, "duration_ms": 150}
        await runner.tell(runner.event("tool_result", **ran))
        done = {"result": "Done.", "cost_usd": 0.25, "duration_ms": 2000, "turns": 1, "usage": usage}
        end = runner.event("task_completed", **done)
        for _ in range(2):  # as a runtime that has not heard the answer
            assert (await runner.tell(end)).status_code == 200

        async def is_shown() -> bool:
            text = (await rest.get(str(rest.base_url).replace("/api/v1/", "/metrics"))).text
            return f'komputer_agents_active{{namespace="{world.namespace}"' in text

        await eventually(is_shown)
        text = world.gateway.metrics.text().decode()
        of = f'agent_name="",model="claude-sonnet-4-6",namespace="{world.namespace}"'
        tasks = {
            outcome: value(text, f'komputer_agent_tasks_total{{{of},outcome="{outcome}"}}')
            for outcome in ("started", "completed", "errored")
        }
        assert tasks == {"started": 1, "completed": 1, "errored": 0}
        assert value(text, f"komputer_agent_task_cost_usd_total{{{of}}}") == 0.25
        tokens = f'komputer_agent_task_tokens_total{{agent_name="",kind="%s",{of.partition(",")[2]}}}'
        assert (value(text, tokens % "input"), value(text, tokens % "output")) == (7, 5)
        calls = f'agent_name="",namespace="{world.namespace}",outcome="success",tool="Bash"'
        assert value(text, f"komputer_agent_tool_invocations_total{{{calls}}}") == 1
