"""What leads nowhere is refused with JSON, whatever was asked for."""

import json

import pytest
from starlette.types import Message

from komputer.api.queries import agent_query
from komputer.domain.errors import Invalid
from tests.unit.api import bare


@pytest.mark.parametrize("path", ["/api/v1/nope/ws", "/api/v1/agents/a/b/ws", "/ws"])
async def test_a_websocket_where_there_is_none_is_404_with_json(path: str) -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    scope = {"type": "websocket", "path": path, "raw_path": path.encode(), "query_string": b"", "scheme": "ws"}
    extensions: dict[str, dict[str, str]] = {"websocket.http.response": {}}
    headers = [(b"host", b"localhost")]
    await bare.app()({**scope, "headers": headers, "extensions": extensions, "root_path": ""}, receive, send)
    head, body = sent
    assert (head["type"], head["status"]) == ("websocket.http.response.start", 404)
    assert json.loads(body["body"]) == {"error": "there is no such route", "code": "no_route"}


def test_a_status_that_there_is_not_is_answered_with_those_that_there_are_as_they_are_written() -> None:
    with pytest.raises(Invalid, match=r"taskStatus must be one of Compacting, Complete, Error, InProgress$"):
        agent_query([("taskStatus", "idle")])
