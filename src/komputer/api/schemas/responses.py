"""Fields that responses of several kinds have in common."""

from typing import Annotated, Literal

from pydantic import Field

from komputer.domain.base import WireModel


class ResponseBase(WireModel):
    """A response to a request that may have had a body."""

    warnings: Annotated[
        list[str] | None, Field(description="Parts of the request that have no effect, such as misspelt fields.")
    ] = None


class Deleted(WireModel):
    """The object was deleted, or will be as soon as its children are."""

    status: Literal["deleted"]
    name: str


class ErrorBody(WireModel):
    """Every error. `code` is stable; programs should compare it and not the sentence."""

    error: str
    code: str
