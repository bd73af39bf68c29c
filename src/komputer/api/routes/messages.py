"""`/api/v1/agents/{name}/messages` and `…/compact`: messages to a running task, and compaction of a conversation."""

from fastapi import APIRouter, Request

from komputer.api.idempotency import request_id
from komputer.api.routes.shared import BUSY, ERRORS, LARGE, NO_AGENT, Json, Namespace, answer
from komputer.api.schemas.agents import AgentAccepted, Compact, MessageAccepted, MessageRequest
from komputer.api.state import state_of

router = APIRouter(prefix="/api/v1/agents/{name}", tags=["agents"], responses=ERRORS)


@router.post(
    "/messages",
    operation_id="send_agent_message",
    status_code=202,
    response_model=MessageAccepted,
    responses={**NO_AGENT, **BUSY, **LARGE},
)
async def send_agent_message(request: Request, name: str, body: MessageRequest, namespace: Namespace) -> Json:
    """Send a message to the running task. It is stored in the agent's event log, and the task does not complete before
    the model has answered it. 409 if no task runs."""
    sent = await state_of(request).agents.agents.message(namespace, name, body.content, request_id(request))
    return answer(MessageAccepted(status="accepted", name=name, id=sent.id, task_id=sent.task_id), body, 202)


@router.post(
    "/compact",
    operation_id="compact_agent",
    response_model=AgentAccepted,
    responses={**NO_AGENT, **BUSY, **LARGE},
)
async def compact_agent(request: Request, name: str, namespace: Namespace, body: Compact | None = None) -> Json:
    """Summarise the conversation of an idle agent, so that the next task has more room in the context window. 409 if a
    task runs, or if there is no conversation yet."""
    instructions = body.instructions if body else None
    await state_of(request).agents.agents.compact(namespace, name, instructions, request_id(request))
    return answer(AgentAccepted(status="compacting", name=name), body)
