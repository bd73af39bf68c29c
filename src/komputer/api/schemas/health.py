"""The responses of `/healthz` and `/readyz`."""

from typing import Literal

from komputer.domain.base import WireModel


class Alive(WireModel):
    """The process answers."""

    status: Literal["ok"]


class Ready(WireModel):
    """The process can answer requests."""

    status: Literal["ready"]


class NotReady(WireModel):
    """The process cannot answer requests; `error` and `code` say why."""

    status: Literal["not ready"]
    error: str
    code: str
