"""`/api/v1/agents/{name}/messages` and `/compact`."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field

from komputer.agents import messages
from komputer.agents.view import encoded
from komputer.api.bodies import Body, Done, within
from komputer.api.routes.agents import (
    BUSY,
    ERRORS,
    GONE,
    LARGE,
    Json,
    Namespace,
    agents,
    event_log,
    refuse_idempotency_key,
)

CONTENT_LIMIT_BYTES = 64 * 1024
"""An event holds a message whole, since the runtime has it from there."""

router = APIRouter(prefix="/api/v1/agents", tags=["agents"], responses=ERRORS)


class SendMessage(Body):
    """`POST /agents/{name}/messages`: something to say to the running task."""

    content: Annotated[str, within(CONTENT_LIMIT_BYTES), Field(min_length=1, pattern=r"\S")]


class CompactAgent(Body):
    """`POST /agents/{name}/compact`: what the summary is to keep. The body may be left out."""

    instructions: Annotated[str | None, within(CONTENT_LIMIT_BYTES)] = None


class MessageSent(BaseModel):
    """`id` is that of the `user_message` event."""

    status: str
    name: str
    id: str


@router.post(
    "/{name}/messages",
    operation_id="send_message",
    response_model=MessageSent,
    responses={**GONE, **BUSY, **LARGE},
    dependencies=[Depends(refuse_idempotency_key)],
)
async def send_message(request: Request, name: str, body: SendMessage, namespace: Namespace) -> Json:
    """Say something to an agent at work: the model has it with its next step, and answers before the task ends. 409
    where no task runs."""
    sent = await messages.send(agents(request), event_log(request), namespace, name, body.content)
    return Json(encoded({"status": "sent", "name": name, "id": sent}))


@router.post(
    "/{name}/compact",
    operation_id="compact_agent_task",
    response_model=Done,
    responses={**GONE, **BUSY, **LARGE},
    dependencies=[Depends(refuse_idempotency_key)],
)
async def compact_agent_task(
    request: Request, name: str, namespace: Namespace, body: CompactAgent | None = None
) -> Json:
    """Have an idle agent's conversation summarised, so that the next task has room. It is a task like any other, of
    taskStatus `Compacting`. 409 while one runs."""
    instructions = (body.instructions if body else None) or ""
    await messages.compact(agents(request), namespace, name, " ".join(instructions.split()))
    return Json(encoded({"status": "compacting", "name": name}))
