"""`Client`: the REST API as Python calls."""

import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import httpx

END_TYPES = frozenset({"task_completed", "task_cancelled", "error"})
POLL_FIRST_S, POLL_LAST_S = 0.05, 0.5
"""How often a follower asks for more: soon after something came, more slowly while nothing does."""
PAGE = 200

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
    where it is None.
    """

    def __init__(self, api: str, namespace: str | None = None, *, timeout_s: float = 30.0) -> None:
        self._api = api.rstrip("/")
        self._namespace = namespace
        self._http = httpx.Client(base_url=f"{self._api}/api/v1", timeout=timeout_s, trust_env=False)

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
            raise Unreachable(
                f"no answer from {self._api} ({type(wrong).__name__}); is the platform running (komputer up)?",
                "unreachable",
                0,
            ) from wrong
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
        """Say something to the running task; `id` is that of the event."""
        return self._call("POST", f"/agents/{name}/messages", body={"content": content})

    def compact(self, name: str, instructions: str | None = None) -> Json:
        """Have the conversation summarised, as a task of its own."""
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

    def follow(self, name: str, after: str) -> Iterator[Json]:
        """Every event after the cursor, as it happens, for ever. Survives an API that is away for a while."""
        pause = POLL_FIRST_S
        while True:
            try:
                page = self.events(name, limit=PAGE, after=after)
            except ApiError as away:
                if not isinstance(away, Unreachable) and away.status != 503:
                    raise
                page = []
            for event in page:
                after = event["id"]
                yield event
            if len(page) < PAGE:
                pause = POLL_FIRST_S if page else min(pause * 1.5, POLL_LAST_S)
                time.sleep(pause)
