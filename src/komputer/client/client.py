"""`Client`: the REST API as Python calls."""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Self

import httpx

END_TYPES = frozenset({"task_completed", "task_cancelled", "error"})
RETRY_FIRST_S, RETRY_LAST_S = 0.1, 2.0
"""How soon a follower that was cut off comes back: doubled from the first to the second."""
STREAM_TIMEOUT = httpx.Timeout(10.0, read=30.0)
"""A stream says something every ten seconds; one that is silent for longer is dead."""

Json = dict[str, Any]


class ApiError(Exception):
    """The API refused. `code` is stable, `status` is HTTP's."""

    def __init__(self, message: str, code: str, status: int) -> None:
        super().__init__(message)
        self.message, self.code, self.status = message, code, status


class Unreachable(ApiError):
    """Nobody answers at the address."""


class Client:
    """Calls one API. Every method raises `ApiError`; `Unreachable` where nobody answers.

    `api` is its address, such as `http://127.0.0.1:8080`; `namespace` is that of all calls, the server's default
    where it is None. `token` is sent as `Authorization: Bearer`; a function is asked for it at each call, since tokens
    are rotated.
    """

    def __init__(
        self,
        api: str,
        namespace: str | None = None,
        *,
        token: str | Callable[[], str] | None = None,
        timeout_s: float = 30.0,
    ) -> None:
        self._api = api.rstrip("/")
        self._namespace = namespace

        def authorized(request: httpx.Request) -> httpx.Request:
            if token is not None:
                request.headers["Authorization"] = f"Bearer {token if isinstance(token, str) else token()}"
            return request

        self._http = httpx.Client(base_url=f"{self._api}/api/v1", timeout=timeout_s, trust_env=False, auth=authorized)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def _call(self, method: str, path: str, *, body: Json | None = None, query: Json | None = None) -> Json:
        asked = {
            key: value for key, value in {"namespace": self._namespace, **(query or {})}.items() if value is not None
        }
        try:
            answer = self._http.request(method, path, json=body, params=asked)
        except (httpx.HTTPError, httpx.InvalidURL) as wrong:
            raise self._unreachable(wrong) from wrong
        return self._checked(answer)

    def _unreachable(self, wrong: Exception) -> Unreachable:
        sentence = f"no answer from {self._api} ({type(wrong).__name__}); is the platform running (komputer up)?"
        return Unreachable(sentence, "unreachable", 0)

    def _checked(self, answer: httpx.Response) -> Json:
        """The answer's JSON. Raises `ApiError` for one that is an error."""
        try:
            found = answer.json()
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ApiError(f"{self._api} does not answer as Komputer does; check the address", "not-komputer", 0)
        if answer.is_error:
            message = str(found.get("error", f"HTTP {answer.status_code}"))
            raise ApiError(message, str(found.get("code", "http")), answer.status_code)
        return found

    def create(self, name: str, instructions: str, **fields: Any) -> Json:
        """A new agent, or the next task of an idle one. `fields` are those of the API (`model`, `systemPrompt` …)."""
        named = {key: value for key, value in fields.items() if value is not None}
        return self._call("POST", "/agents", body={"name": name, "instructions": instructions, **named})

    def agents(self) -> list[Json]:
        return list(self._call("GET", "/agents")["agents"])

    def agent(self, name: str) -> Json:
        return self._call("GET", f"/agents/{name}")

    def cancel(self, name: str) -> Json:
        return self._call("POST", f"/agents/{name}/cancel")

    def send(self, name: str, content: str) -> Json:
        """Say something to the running task; the answer's `id` is the event's."""
        return self._call("POST", f"/agents/{name}/messages", body={"content": content})

    def compact(self, name: str, instructions: str | None = None) -> Json:
        """Have the conversation of an idle agent summarised, by a task of its own kind."""
        body = {"instructions": instructions} if instructions else {}
        return self._call("POST", f"/agents/{name}/compact", body=body)

    def delete(self, name: str) -> Json:
        return self._call("DELETE", f"/agents/{name}")

    def events(
        self,
        name: str,
        *,
        limit: int = 50,
        after: str | None = None,
        before: str | None = None,
        types: str | None = None,
    ) -> list[Json]:
        """A page, oldest first: the most recent, or those after or before a cursor."""
        query = {"limit": limit, "after": after, "before": before, "types": types}
        return list(self._call("GET", f"/agents/{name}/events", query=query)["events"])

    def last_event_id(self, name: str) -> str:
        """The cursor behind everything that the agent has done so far."""
        try:
            newest = self.events(name, limit=1)
        except ApiError as missing:
            if missing.status == 404:
                return "0-0"
            raise
        return str(newest[-1]["id"]) if newest else "0-0"

    def follow(self, name: str, after: str, *, types: str | None = None) -> Iterator[Json]:
        """Every event after the cursor, as it happens, for ever; `ApiError` (404) when the agent is deleted.

        Survives an API that is away for a while. Where retention took some, a notice of type `gap` comes first.
        """
        pause = RETRY_FIRST_S
        while True:
            try:
                for event_id, event in self._streamed(f"/agents/{name}/events/stream", after, types):
                    pause = RETRY_FIRST_S
                    after = event_id or after
                    if event is not None:
                        yield event
            except ApiError as away:
                if not isinstance(away, Unreachable) and away.status != 503:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, RETRY_LAST_S)

    def _streamed(self, path: str, after: str, types: str | None) -> Iterator[tuple[str, Json | None]]:
        """Cursors and what they are of; None where only the cursor moved. Ends when the connection does."""
        query = {"namespace": self._namespace, "types": types}
        asked = {key: value for key, value in query.items() if value is not None}
        try:
            with self._http.stream(
                "GET", path, params=asked, headers={"Last-Event-ID": after}, timeout=STREAM_TIMEOUT
            ) as answer:
                if answer.is_error:
                    answer.read()
                    self._checked(answer)
                yield from messages(answer.iter_lines())
        except (httpx.HTTPError, httpx.InvalidURL) as wrong:
            raise self._unreachable(wrong) from wrong


def messages(lines: Iterable[str]) -> Iterator[tuple[str, Json | None]]:
    """Of Server-Sent Events: the id and the JSON of each message, whole ones only."""
    event_id, data, is_ours = "", list[str](), True
    for line in lines:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if line:
            event_id = value if field == "id" else event_id
            is_ours = value != "end" if field == "event" else is_ours
            data += [value] if field == "data" else []
        else:
            yield event_id, json.loads("\n".join(data)) if data and is_ours else None
            data, is_ours = [], True
