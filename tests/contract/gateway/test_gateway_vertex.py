"""Claude on Vertex AI: Claude in the pod speaks the Messages API, the model's address gets Vertex AI's form of it."""

import json

import pytest

from komputer import gateway
from tests.contract.gateway.serving import Model, streams
from tests.contract.gateway.world import MODEL, Runner, World, asking

MODELS = "/projects/acme-ai/locations/europe-west1/publishers/anthropic/models"


@pytest.fixture
def vertex() -> gateway.Vertex:
    return gateway.Vertex("acme-ai", "europe-west1")


@pytest.fixture
async def ada(world: World) -> Runner:
    ada = await world.agent()
    await ada.start()
    return ada


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_the_model_is_in_the_path_and_the_version_in_the_body(
    ada: Runner, model: Model, is_streamed: bool
) -> None:
    asked = asking(**({"stream": True} if is_streamed else {}))
    answered = await ada.ask(asked, "/model/v1/messages?beta=true", **{"anthropic-beta": "x-1"})
    assert answered.status_code == 200
    (seen,) = model.seen
    assert seen.path == f"{MODELS}/{MODEL}:{'streamRawPredict' if is_streamed else 'rawPredict'}"
    assert seen.query == ""
    assert seen.headers["anthropic-beta"] == "x-1"
    del asked["model"]
    assert json.loads(seen.body) == {**asked, "anthropic_version": "vertex-2023-10-16"}


async def test_tokens_are_counted_by_a_model_of_that_name(ada: Runner, model: Model) -> None:
    assert (await ada.ask(path="/model/v1/messages/count_tokens")).status_code == 200
    (seen,) = model.seen
    assert seen.path == f"{MODELS}/count-tokens:rawPredict"
    assert json.loads(seen.body)["model"] == MODEL


async def test_another_model_is_refused_before_a_path_is_made_of_it(ada: Runner, model: Model) -> None:
    answered = await ada.ask(asking(model="../../../secrets"))
    assert answered.status_code == 403
    assert not model.seen


@pytest.mark.parametrize(
    ("assigned", "asked"),
    [
        ("sonnet", "claude-sonnet-x:predict?y="),
        ("sonnet", "claude-sonnet-x/../../../google/models/y"),
        ("sonnet", "claude-sonnet-x%2f..%2fy"),
        ("sonnet", "claude-sonnet-x\n"),
        ("x/../../google/models/y", "x/../../google/models/y"),
    ],
)
@pytest.mark.parametrize("path", ["/model/v1/messages", "/model/v1/messages/count_tokens"])
async def test_a_model_that_would_lead_the_platforms_token_elsewhere_is_refused(
    world: World, model: Model, assigned: str, asked: str, path: str
) -> None:
    ada = await world.agent(model=assigned)
    await ada.start()
    answered = await ada.ask(asking(model=asked), path)
    assert (answered.status_code, answered.json()["code"]) == (400, "model_not_on_vertex")
    assert answered.json()["error"]["type"] == "invalid_request_error"
    assert not model.seen


@pytest.mark.parametrize("name", ["claude-sonnet-4-6", "claude-sonnet-4-5@20250929", "claude_x.1"])
async def test_models_as_vertex_ai_names_them_pass(world: World, model: Model, name: str) -> None:
    ada = await world.agent(model=name)
    await ada.start()
    assert (await ada.ask(asking(model=name))).status_code == 200
    assert model.seen[0].path == f"{MODELS}/{name}:rawPredict"


async def test_an_answer_streams_as_it_comes(ada: Runner, model: Model) -> None:
    model.reply = streams(b"event: message_start\n\n", b"event: message_stop\n\n")
    model.may_go_on.set()
    answered = await ada.ask(asking(stream=True))
    assert answered.text == "event: message_start\n\nevent: message_stop\n\n"


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("global", "aiplatform.googleapis.com"),
        ("eu", "aiplatform.eu.rep.googleapis.com"),
        ("us-east5", "us-east5-aiplatform.googleapis.com"),
    ],
)
def test_each_kind_of_region_has_its_address(region: str, host: str) -> None:
    assert gateway.Vertex("acme-ai", region).base_url == f"https://{host}/v1"
