"""Plain HTTP to one API server, without a client library in between."""

import base64
import json
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TypeVar

import httpx
import yaml

JSON = dict[str, Any]
T = TypeVar("T")

MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"

DEADLINE_SECONDS = 45
"""How long anything that a controller does may take. A real garbage collector looks for new kinds every 30 s only."""


class Event(NamedTuple):
    """One event of a watch."""

    type: str
    object: JSON

    @property
    def name(self) -> str:
        return str(self.object["metadata"]["name"])


@dataclass(frozen=True, kw_only=True)
class Access:
    """How to reach a server: its address, its trust, and our identity (a token, or a client certificate inside
    `verify`)."""

    server: str
    verify: ssl.SSLContext | bool
    token: str | None


def read_kubeconfig(path: Path) -> Access:
    """Return the server and user of the current context: inline or file-based certificates, or a token."""
    config = yaml.safe_load(path.read_text())
    contexts, clusters, users = (
        {item["name"]: item[kind] for item in config[f"{kind}s"]} for kind in ("context", "cluster", "user")
    )
    context = contexts[config["current-context"]]
    cluster, user = clusters[context["cluster"]], users[context["user"]]

    def pem(holder: JSON, field: str) -> bytes | None:
        if data := holder.get(f"{field}-data"):
            return base64.b64decode(data)
        return (path.parent / holder[field]).read_bytes() if field in holder else None

    verify: ssl.SSLContext | bool = True
    if authority := pem(cluster, "certificate-authority"):
        verify = ssl.create_default_context(cadata=authority.decode())
        certificate, key = pem(user, "client-certificate"), pem(user, "client-key")
        if certificate and key:
            with TemporaryDirectory() as folder:
                (Path(folder) / "both.pem").write_bytes(certificate + b"\n" + key)
                verify.load_cert_chain(Path(folder) / "both.pem")
    return Access(server=cluster["server"], verify=verify, token=user.get("token"))


class Api:
    """One user's connection to the server. `anonymous` and `as_bearer` return connections of other users."""

    def __init__(self, access: Access) -> None:
        self.access = access
        headers = {"Authorization": f"Bearer {access.token}"} if access.token else {}
        self._http = httpx.Client(
            base_url=access.server, verify=access.verify, headers=headers, timeout=DEADLINE_SECONDS, trust_env=False
        )

    def close(self) -> None:
        self._http.close()

    @contextmanager
    def as_bearer(self, token: str | None) -> "Iterator[Api]":
        """Return a connection to the same server with `token` (None: without credentials) and without our
        certificate."""
        verify = self.access.verify
        if isinstance(verify, ssl.SSLContext):
            bare = ssl.create_default_context()
            for authority in verify.get_ca_certs(binary_form=True):
                bare.load_verify_locations(cadata=authority)
            verify = bare
        other = Api(Access(server=self.access.server, verify=verify, token=token))
        try:
            yield other
        finally:
            other.close()

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str = "application/json",
        accept: str = "application/json",
        **params: str | int,
    ) -> httpx.Response:
        """Send a request. A `body` of bytes is sent unchanged, any other value as JSON; None sends no body."""
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Accept": accept} | ({"Content-Type": content_type} if content is not None else {})
        return self._http.request(method, path, content=content, headers=headers, params=params or None)

    def get(self, path: str, **params: Any) -> httpx.Response:
        return self.request("GET", path, **params)

    def post(self, path: str, body: Any, **params: Any) -> httpx.Response:
        return self.request("POST", path, body, **params)

    def put(self, path: str, body: Any, **params: Any) -> httpx.Response:
        return self.request("PUT", path, body, **params)

    def patch(self, path: str, body: Any, content_type: str = MERGE, **params: Any) -> httpx.Response:
        return self.request("PATCH", path, body, content_type=content_type, **params)

    def delete(self, path: str, body: Any = None, **params: Any) -> httpx.Response:
        return self.request("DELETE", path, body, **params)

    @contextmanager
    def watch(self, path: str, *, accept: str = "application/json", **params: str | int) -> Iterator[Iterator[Event]]:
        """Return the events of a watch. It is open when this returns, so it sees all later writes."""
        query = {"watch": "1", "timeoutSeconds": DEADLINE_SECONDS, **params}
        with self._http.stream("GET", path, params=query, headers={"Accept": accept}) as response:
            if response.status_code != 200:
                response.read()
                raise AssertionError(f"the watch was answered with {response.status_code}: {response.text}")
            yield (Event(frame["type"], frame["object"]) for frame in map(json.loads, response.iter_lines()))


def answered(response: httpx.Response, code: int = 200) -> JSON:
    """Return the body of a response that must have this status code."""
    assert response.status_code == code, (
        f"{response.request.method} {response.url} → {response.status_code}: {response.text}"
    )
    body = response.json()
    assert isinstance(body, dict)
    return body


def refused(response: httpx.Response, code: int, reason: str) -> JSON:
    """Return the Status of a refusal that must have this code and reason."""
    status = answered(response, code)
    assert (status["kind"], status["status"], status["code"], status.get("reason")) == (
        "Status",
        "Failure",
        code,
        reason,
    )
    assert status["message"]
    return status


def causes(response: httpx.Response) -> dict[str, str]:
    """Return the invalid fields of a 422, each with its reason."""
    status = refused(response, 422, "Invalid")
    return {cause["field"]: cause["reason"] for cause in status["details"]["causes"]}


def eventually(read: Callable[[], T], until: Callable[[T], object], seconds: float = DEADLINE_SECONDS) -> T:
    """Read until the value is as expected, and return it; for changes that a controller makes later."""
    end = time.monotonic() + seconds
    pause = 0.01
    while not until(value := read()):
        assert time.monotonic() < end, f"not so within {seconds} s: {value!r}"
        time.sleep(pause)
        pause = min(pause * 2, 0.25)
    return value
