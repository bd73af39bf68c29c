"""`/api/v1/agents/{name}/messages`: speaking to an agent while it works."""

from fastapi import APIRouter, Depends, Request

from komputer.agents.view import encoded
from komputer.api.bodies import Message, MessageAccepted
from komputer.api.routes.agents import (
    BUSY,
    ERRORS,
    GONE,
    LARGE,
    Json,
    Namespace,
    agents,
    refuse_idempotency_key,
)

router = APIRouter(prefix="/api/v1/agents/{name}/messages", tags=["agents"], responses=ERRORS)


@router.post(
    "",
    operation_id="send_agent_message",
    status_code=202,
    response_model=MessageAccepted,
    responses={**GONE, **BUSY, **LARGE},
    dependencies=[Depends(refuse_idempotency_key)],
)
async def send_agent_message(request: Request, name: str, body: Message, namespace: Namespace) -> Json:
    """Say something to the running task. It is in the agent's log now, and the task does not complete before the model
    has answered. 409 where no task runs."""
    event_id, task_id = await agents(request).message(namespace, name, body.content)
    return Json(encoded({"status": "accepted", "name": name, "id": event_id, "taskID": task_id}), 202)
