"""What of an agent can be changed, and how clients find agents. API and operator on a Kubernetes API."""

import httpx
import pytest

from komputer.kube import AGENTS
from tests.contract.api.test_api import created, runtime, take
from tests.contract.gateway.world import World

NONSENSE = ["label=a=b c", "hideArchived=perhaps", "namespace=No"]
EVERYTHING: dict[str, object] = {
    "model": "claude-haiku-4-5",
    "systemPrompt": "Be brief.",
    "templateRef": "other",
    "role": "worker",
    "labels": {"team": "blue", "example.com/tier": "1"},
    "allowedTools": ["Bash", "Read"],
    "disallowedTools": ["Bash(rm:*)"],
    "effort": "high",
}


async def test_every_field_is_set_in_one_patch_and_an_empty_value_clears_it(
    rest: httpx.AsyncClient, world: World
) -> None:
    await created(rest)
    answer = await rest.patch("/agents/ada", json=EVERYTHING)
    assert answer.status_code == 200, answer.text
    assert {key: answer.json().get(key) for key in EVERYTHING} == EVERYTHING
    manifest = await world.cluster.get(AGENTS, "ada", world.namespace)
    assert manifest["metadata"]["labels"].items() >= EVERYTHING["labels"].items()  # type: ignore[attr-defined]
    nothing: dict[str, object] = {
        "systemPrompt": "",
        "allowedTools": [],
        "disallowedTools": [],
        "effort": "",
        "model": None,
    }
    cleared = await rest.patch("/agents/ada", json={**nothing, "removeLabels": ["team", "never-there"]})
    assert cleared.status_code == 200, cleared.text
    left = cleared.json()
    assert left["model"] == "claude-haiku-4-5", "null is as if it were not there"
    assert left["labels"] == {"example.com/tier": "1"}
    assert not {"systemPrompt", "allowedTools", "disallowedTools", "effort"} & left.keys()
    manifest = await world.cluster.get(AGENTS, "ada", world.namespace)
    assert "team" not in manifest["metadata"]["labels"]
    assert manifest["metadata"]["labels"]["example.com/tier"] == "1"
    assert (await rest.patch("/agents/ada", json={"model": ""})).json()["model"] == "claude-sonnet-4-6"


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"effort": "enormous"}, "effort"),
        ({"labels": {"komputer.ai/office": "x"}}, "komputer.ai/office"),
        ({"labels": {"a": "not a value!"}}, "labels"),
        ({"removeLabels": ["komputer.ai/agent-name"]}, "removeLabels"),
        ({"allowedTools": ["has space"]}, "allowedTools"),
        ({"disallowedTools": "Bash"}, "disallowedTools"),
        ({"secretRefs": ["no-such-secret"]}, "no-such-secret"),
        ({"systemPrompt": 3}, "systemPrompt"),
        ({"role": "chief"}, "role"),
    ],
)
async def test_a_patch_that_is_wrong_anywhere_changes_nothing(
    rest: httpx.AsyncClient, world: World, wrong: dict[str, object], named: str
) -> None:
    await created(rest)
    before = (await rest.get("/agents/ada")).headers["etag"]
    answer = await rest.patch("/agents/ada", json={"model": "claude-haiku-4-5", **wrong})
    assert answer.status_code == 400, answer.text
    assert named in answer.json()["error"]
    assert (await rest.get("/agents/ada")).headers["etag"] == before


async def test_a_next_task_without_settings_leaves_them_as_they_are(rest: httpx.AsyncClient, world: World) -> None:
    """A worker does not become a manager because a client left the role out."""
    settings = {"role": "worker", "model": "claude-opus-5-5", "systemPrompt": "Be brief.", "effort": "low"}
    made = await rest.post("/agents", json={"name": "ada", "instructions": "One.", **settings})
    assert made.status_code == 201, made.text
    await (await runtime(world)).end()
    assert (await rest.post("/agents", json={"name": "ada", "instructions": "Two."})).status_code == 200
    agent = (await rest.get("/agents/ada")).json()
    assert {field: agent[field] for field in settings} == settings


async def test_a_patch_of_an_agent_that_is_not_there_is_404(rest: httpx.AsyncClient, world: World) -> None:
    for body in ({"effort": "low"}, {"secretRefs": ["no-such-secret"]}, {}, {"instructions": "x"}):
        answer = await rest.patch("/agents/nobody", json=body)
        assert (answer.status_code, answer.json()["code"]) == (404, "agent_not_found")


async def test_if_match_holds_against_other_changes_and_not_against_the_status(
    rest: httpx.AsyncClient, world: World
) -> None:
    first = await created(rest)
    runner = await runtime(world)
    read = await rest.get("/agents/ada")
    assert read.headers["etag"] == first.headers["etag"], "a task that works changes the status, not the settings"
    mine = {"if-match": read.headers["etag"]}
    other = await rest.patch("/agents/ada", json={"effort": "low"})
    late = await rest.patch("/agents/ada", json={"effort": "max"}, headers=mine)
    assert (late.status_code, late.json()["code"]) == (412, "precondition_failed")
    assert (await rest.get("/agents/ada")).json()["effort"] == "low"
    now = {"if-match": f'"other", {other.headers["etag"]}'}
    assert (await rest.patch("/agents/ada", json={"effort": "max"}, headers=now)).status_code == 200
    assert (await rest.patch("/agents/ada", json={"effort": ""}, headers={"if-match": "*"})).status_code == 200
    await runner.end()
    stale = await rest.patch("/agents/ada", json={"instructions": "Say more."}, headers=mine)
    assert stale.status_code == 412, "a task too is assigned only to what was read"


async def test_a_patch_with_instructions_assigns_them_with_what_came_along(
    rest: httpx.AsyncClient, world: World
) -> None:
    await created(rest)
    runner = await runtime(world)
    busy = await rest.patch("/agents/ada", json={"instructions": "Say more.", "effort": "max"})
    assert (busy.status_code, busy.json()["code"]) == (409, "busy")
    assert "effort" not in (await rest.get("/agents/ada")).json(), "a refused task changes nothing"
    await runner.end()
    taken = await rest.patch("/agents/ada", json={"instructions": "Say more.", "effort": "max"})
    assert (taken.status_code, taken.json()["effort"], taken.json()["taskStatus"]) == (200, "max", "InProgress")
    await take(runner)
    await runner.end()


async def test_a_name_of_sixty_three_characters_works(rest: httpx.AsyncClient, world: World) -> None:
    await created(rest, "a" * 63)
    runner = await runtime(world, "a" * 63)
    await runner.end()
    assert (await rest.patch(f"/agents/{'a' * 63}", json={"labels": {"x": "y"}})).status_code == 200


async def test_agents_are_found_by_label_status_text_and_page(rest: httpx.AsyncClient, world: World) -> None:
    for n, team in enumerate(("blue", "red", "blue")):
        body = {"name": f"a{n}", "instructions": f"Count the SHEEP number {n}.", "labels": {"team": team}}
        assert (await rest.post("/agents", json=body)).status_code == 201
    here: dict[str, str | list[str]] = {"namespace": world.namespace}

    async def found(**asked: str | list[str]) -> list[str]:
        answer = await rest.get("/agents", params=here | {"sort": "name"} | asked)
        assert answer.status_code == 200, answer.text
        return [agent["name"] for agent in answer.json()["agents"]]

    assert await found(label="team=blue") == ["a0", "a2"]
    assert await found(label=["team=blue", "komputer.ai/agent-name=a2"]) == ["a2"]
    assert await found(q="sheep NUMBER 1") == ["a1"]
    assert await found(status="pending", taskStatus="inprogress") == ["a0", "a1", "a2"]
    assert await found(status="Failed") == []
    assert await found(sort="-name", hideArchived="true") == ["a2", "a1", "a0"]
    page = (await rest.get("/agents", params={**here, "sort": "name", "limit": 2})).json()
    assert ([a["name"] for a in page["agents"]], page["total"], page["nextOffset"]) == (["a0", "a1"], 3, 2)
    rest_of_it = (await rest.get("/agents", params={**here, "sort": "name", "limit": 2, "offset": 2})).json()
    assert [a["name"] for a in rest_of_it["agents"]] == ["a2"]
    assert "nextOffset" not in rest_of_it
    assert rest_of_it["facets"]["labels"] == ["team=blue", "team=red"]
    assert world.namespace in rest_of_it["facets"]["namespaces"]


@pytest.mark.parametrize(
    "wrong",
    [
        "limit=0",
        "limit=x",
        "offset=-1",
        "sort=size",
        "limt=1",
        "status=Happy",
        "taskStatus=x",
        "label=nothing",
        *NONSENSE,
    ],
)
async def test_a_parameter_that_means_nothing_is_named(rest: httpx.AsyncClient, world: World, wrong: str) -> None:
    answer = await rest.get(f"/agents?{wrong}")
    assert answer.status_code == 400
    assert wrong.partition("=")[0] in answer.json()["error"]
