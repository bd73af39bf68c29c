"""`/api/v1/agents/{name}/messages` and `…/compact`: speaking to an agent, and shortening what it remembers."""

from fastapi import APIRouter, Request

from komputer.api.idempotency import request_id
from komputer.api.routes.shared import BUSY, ERRORS, LARGE, NO_AGENT, Json, Namespace, agents
from komputer.api.schemas.agents import Compact, Done, MessageAccepted, MessageRequest
from komputer.api.typos import warned
from komputer.services.agents.view import encoded

router = APIRouter(prefix="/api/v1/agents/{name}", tags=["agents"], responses=ERRORS)


@router.post(
    "/messages",
    operation_id="send_agent_message",
    status_code=202,
    response_model=MessageAccepted,
    responses={**NO_AGENT, **BUSY, **LARGE},
)
async def send_agent_message(request: Request, name: str, body: MessageRequest, namespace: Namespace) -> Json:
    """Say something to the running task. It is in the agent's log now, and the task does not complete before the model
    has answered. 409 where no task runs."""
    said = await agents(request).message(namespace, name, body.content, request_id(request))
    told = {"status": "accepted", "name": name, "id": said.id, "taskID": said.task_id}
    return Json(encoded(told | warned(body)), 202)


@router.post(
    "/compact",
    operation_id="compact_agent",
    response_model=Done,
    responses={**NO_AGENT, **BUSY, **LARGE},
)
async def compact_agent(request: Request, name: str, namespace: Namespace, body: Compact | None = None) -> Json:
    """Summarise the conversation of an idle agent, so that the next task begins with more room. 409 where a task runs,
    and where there is no conversation yet."""
    await agents(request).compact(namespace, name, body.instructions if body else None, request_id(request))
    return Json(encoded({"status": "compacting", "name": name} | warned(body)))
