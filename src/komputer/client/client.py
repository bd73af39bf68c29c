"""`Client`, which calls the REST API from Python."""

import json
import re
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Final, Self

import httpx

from komputer.backoff import Backoff
from komputer.client import address, sse

# The client does not import the platform's packages, so these repeat `komputer.domain.tasks`. A test compares them.
END_TYPES = frozenset({"task_completed", "task_cancelled", "error"})
ACTIVE_STATUSES = frozenset({"InProgress", "Compacting"})
BACKOFF: Final = Backoff(0.1, 2.0)
"""Delays before a stream that broke off is reopened."""
STREAM_TIMEOUT = httpx.Timeout(10.0, read=30.0)
"""The server writes to a stream every ten seconds, so one that is silent for longer is dead."""

DELETED: Final = "agent_deleted"
_SEGMENT: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
"""A name of a Kubernetes object. Paths contain nothing else: servers decode `%2F` and `%2E%2E` before they route."""

Json = dict[str, Any]


class ApiError(Exception):
    """The API answered with an error. `code` is stable; `status` is the HTTP status, 0 if there was no answer."""

    def __init__(self, message: str, code: str, status: int) -> None:
        super().__init__(message)
        self.message, self.code, self.status = message, code, status


class Unreachable(ApiError):
    """No server answers at the address."""


class AgentDeleted(ApiError):
    """The agent that was followed no longer exists."""

    def __init__(self, name: str) -> None:
        super().__init__(f"agent {name} was deleted", DELETED, 404)


class Client:
    """Calls one API. Every method raises `ApiError`, and `Unreachable` if no server answers.

    `api` is its address, with or without scheme and `/api/v1`; by default that of `KOMPUTER_API`, else
    `http://127.0.0.1:8080`. `namespace` is used for all calls; None means the server's default. `token` is sent as
    `Authorization: Bearer`; a function is called for it at each request, because tokens are rotated.
    """

    def __init__(
        self,
        api: str | None = None,
        namespace: str | None = None,
        *,
        token: str | Callable[[], str] | None = None,
        timeout_s: float = 30.0,
    ) -> None:
        try:
            self._api = address.normalized(api or address.from_environment())
        except ValueError as wrong:
            raise ApiError(str(wrong), "invalid_address", 0) from wrong
        self._namespace = namespace

        def authorized(request: httpx.Request) -> httpx.Request:
            if token is not None:
                request.headers["Authorization"] = (
                    f"Bearer {_header_safe(token if isinstance(token, str) else token())}"
                )
            return request

        self._http = httpx.Client(
            base_url=f"{self._api}{address.PREFIX}", timeout=timeout_s, trust_env=False, auth=authorized
        )

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
        except UnicodeEncodeError as wrong:
            near = wrong.object[max(0, wrong.start - 20) : wrong.start + 20]
            raise ApiError(f"what is to be sent is not valid UTF-8 text, near {near!a}", "invalid_text", 0) from wrong
        return self._checked(answer)

    def _unreachable(self, wrong: Exception) -> Unreachable:
        sentence = (
            f"no answer from {self._api} ({_reason(wrong)}); is the platform running (komputer up), "
            f"and is {address.VARIABLE} its address?"
        )
        return Unreachable(sentence, "unreachable", 0)

    def _checked(self, answer: httpx.Response) -> Json:
        """Return the JSON of a response. Raises `ApiError` if it is an error."""
        try:
            found = answer.json()
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            if answer.status_code >= 500:  # the error of a proxy, not of the API
                raise ApiError(f"{self._api} answered HTTP {answer.status_code}", "http", answer.status_code)
            raise ApiError(f"{self._api} does not answer as Komputer does; check the address", "not_komputer", 0)
        if answer.is_error:
            message = str(found.get("error", f"HTTP {answer.status_code}"))
            raise ApiError(message, str(found.get("code", "http")), answer.status_code)
        return found

    def create(self, name: str, instructions: str, **fields: Any) -> Json:
        """Create an agent, or assign the next task to an idle one. `fields` are further fields of the request."""
        named = {key: value for key, value in fields.items() if value is not None}
        return self._call("POST", "/agents", body={"name": name, "instructions": instructions, **named})

    def agents(self) -> list[Json]:
        return list(self._call("GET", "/agents")["agents"])

    def agent(self, name: str) -> Json:
        return self._call("GET", _path(name))

    def cancel(self, name: str) -> Json:
        return self._call("POST", f"{_path(name)}/cancel")

    def send(self, name: str, content: str) -> Json:
        """Send a message to the running task. The `id` of the answer is that of the event."""
        return self._call("POST", f"{_path(name)}/messages", body={"content": content})

    def compact(self, name: str, instructions: str | None = None) -> Json:
        """Summarise the conversation of an idle agent."""
        body = {"instructions": instructions} if instructions else {}
        return self._call("POST", f"{_path(name)}/compact", body=body)

    def delete(self, name: str) -> Json:
        return self._call("DELETE", _path(name))

    def events(
        self,
        name: str,
        *,
        limit: int = 50,
        after: str | None = None,
        before: str | None = None,
        types: str | None = None,
    ) -> list[Json]:
        """Return a page of events, oldest first: the most recent, or those after or before a cursor."""
        query = {"limit": limit, "after": after, "before": before, "types": types}
        return list(self._call("GET", f"{_path(name)}/events", query=query)["events"])

    def last_event(self, name: str) -> Json | None:
        """Return the newest event of an agent; None if it has none or does not exist."""
        try:
            newest = self.events(name, limit=1)
        except ApiError as missing:
            if missing.status == 404:
                return None
            raise
        return newest[-1] if newest else None

    def follow(
        self, name: str, after: str, *, types: str | None = None, tell: Callable[[str], None] = lambda sentence: None
    ) -> Iterator[Json]:
        """Yield every event after the cursor as it happens, forever. Raises `AgentDeleted` when the agent is deleted.

        The stream is reopened while the API does not answer: `tell` is called with a sentence when the second attempt
        fails, and when the API answers again. If retention has removed events, a notice of type `gap` comes first.
        """
        path = f"{_path(name)}/events/stream"
        failures, was_open, is_away = 0, False, False
        while True:
            try:
                for message in self._streamed(path, after, types):
                    if is_away:
                        tell(f"{self._api} answers again")
                    failures, was_open, is_away = 0, True, False
                    after = message.id or after
                    if message.event == "end":
                        if message.data == DELETED:
                            raise AgentDeleted(name)
                        break
                    if message.data is not None:
                        yield self._event(message.data)
            except ApiError as failed:
                if failed.status == 404 and was_open:
                    raise AgentDeleted(name) from failed
                if not isinstance(failed, Unreachable) and failed.status < 500:
                    raise
                if failures > 0 and not is_away:
                    is_away = True
                    tell(failed.message)
            failures += 1
            time.sleep(BACKOFF.delay_s(failures))

    def _event(self, data: str) -> Json:
        try:
            event = json.loads(data)
        except (ValueError, RecursionError):
            event = None
        if not isinstance(event, dict) or not isinstance(event.get("type"), str):
            raise ApiError(f"{self._api} does not stream events as Komputer does; check the address", "not_komputer", 0)
        return event

    def _streamed(self, path: str, after: str, types: str | None) -> Iterator[sse.ServerSentEvent]:
        """Yield the messages of one connection until it ends."""
        query = {"namespace": self._namespace, "types": types}
        asked = {key: value for key, value in query.items() if value is not None}
        try:
            with self._http.stream(
                "GET", path, params=asked, headers={"Last-Event-ID": after}, timeout=STREAM_TIMEOUT
            ) as answer:
                if answer.is_error:
                    answer.read()
                    self._checked(answer)
                yield from sse.messages(answer.iter_bytes())
        except (httpx.HTTPError, httpx.InvalidURL) as wrong:
            raise self._unreachable(wrong) from wrong


def _path(name: str) -> str:
    """Return the path of an agent. Raises `ApiError` for a name that would lead to another resource."""
    if not _SEGMENT.fullmatch(name):
        raise ApiError(
            f"{name!a} cannot be an agent's name: use lower-case letters, digits and hyphens, up to 63",
            "invalid_name",
            0,
        )
    return f"/agents/{name}"


def _header_safe(token: str) -> str:
    """Return the token. Raises `ApiError` if no header can contain it: httpx's own error would quote the token."""
    if not token.isascii() or not token.isprintable():
        raise ApiError("the token must be printable ASCII characters on one line", "invalid_token", 0)
    return token


def _reason(wrong: Exception) -> str:
    """Return the reason why there was no answer, in words for people."""
    if isinstance(wrong, httpx.TimeoutException):
        return "it took too long"
    if "[SSL: WRONG_VERSION_NUMBER]" in str(wrong):
        return "it does not speak TLS: write http://"
    return re.sub(r"^\[[^]]*\] | \(_ssl\.c:\d+\)$", "", str(wrong)) or type(wrong).__name__
