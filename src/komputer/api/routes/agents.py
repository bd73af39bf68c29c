"""`/api/v1/agents`."""

from typing import Annotated, Final

import orjson
from fastapi import APIRouter, Header, Query, Request

from komputer.api.idempotency import request_id
from komputer.api.queries import agent_query, page_size
from komputer.api.routes.shared import (
    BUSY,
    ERRORS,
    LARGE,
    NO_AGENT,
    Json,
    Namespace,
    answer,
    refusal,
)
from komputer.api.schemas.agents import (
    AgentAccepted,
    AgentCreated,
    AgentList,
    AgentResponse,
    CreateAgent,
    PatchAgent,
    settings_given,
)
from komputer.api.schemas.events import EventPage
from komputer.api.schemas.responses import Deleted
from komputer.api.state import rights_of, state_of
from komputer.api.typos import event_types, warnings_about
from komputer.domain.errors import Invalid
from komputer.kube import AGENTS
from komputer.services.access import AccessRequest
from komputer.services.agents.agents import AgentRequest
from komputer.services.agents.history import PageRequest
from komputer.services.agents.reader import Versioned

EVENTS_DEFAULT: Final = 50
EVENTS_MAX: Final = 200
NO_EFFECT: Final = "No effect; accepted because published clients send it."
CHANGED: Final = refusal(412, "The agent was changed meanwhile.")

router = APIRouter(prefix="/api/v1/agents", tags=["agents"], responses=ERRORS)


def etags(if_match: str | None) -> list[str] | None:
    """Return the etags of an `If-Match` header; None if any agent matches. Weak etags match nothing."""
    return None if if_match is None or if_match.strip() == "*" else [part.strip() for part in if_match.split(",")]


@router.post(
    "",
    operation_id="create_agent",
    status_code=201,
    response_model=AgentCreated,
    responses={200: {"model": AgentCreated, "description": "The agent existed and has the task now."}, **BUSY, **LARGE},
)
async def create_agent(request: Request, body: CreateAgent, namespace: Namespace) -> Json:
    """Create an agent, or assign the next task to an idle one. A busy one answers 409."""
    body.refuse_unsupported()
    state = state_of(request)
    wanted = AgentRequest(
        namespace=namespace,
        name=body.name,
        instructions=body.instructions,
        settings=settings_given(body),
        secrets=body.secrets,
        request_id=request_id(request),
    )
    assigned = await state.agents.requests.create_or_assign(wanted, rights_of(request))
    status = state.settings.create_status or (201 if assigned.is_new else 200)
    return answer(assigned.agent, body, status, {"ETag": assigned.etag})


@router.get("", operation_id="list_agents", response_model=AgentList)
async def list_agents(
    request: Request,
    namespace: Annotated[str | None, Query()] = None,
    status: Annotated[str | None, Query(description="A phase, such as `Running`.")] = None,
    task_status: Annotated[str | None, Query(alias="taskStatus", description="Such as `InProgress`.")] = None,
    label: Annotated[list[str] | None, Query(description="`key=value`; an agent must have all that are given.")] = None,
    q: Annotated[str | None, Query(description="Part of the name, the instructions or the last message.")] = None,
    sort: Annotated[
        str | None,
        Query(
            description="`created`, `lastActive`, `status`, `model`, `cost`, `name`; with a `-` descending. By default "
            "the newest come first."
        ),
    ] = None,
    limit: Annotated[str | None, Query(description="Maximum number of agents; by default all.")] = None,
    offset: Annotated[str | None, Query(description="How many to skip: `nextOffset` of the last answer.")] = None,
    hide_archived: Annotated[str | None, Query(alias="hideArchived", description="No agent is archived yet.")] = None,
) -> Json:
    """List all agents, or those that match the filters."""
    query = agent_query(request.query_params.multi_items())
    services = state_of(request).agents

    def candidates() -> frozenset[str]:
        return frozenset((query.namespace,)) if query.namespace else services.agents.namespaces()

    visible = await rights_of(request).visible(AccessRequest("list", AGENTS), candidates)
    services.agents.require_synced()
    return Json(services.lists.answer(query, visible))


@router.get("/{name}", operation_id="get_agent", response_model=AgentResponse, responses=NO_AGENT)
async def get_agent(request: Request, name: str, namespace: Namespace) -> Json:
    """Return an agent as of now. Its ETag identifies the state that PATCH changes, for `If-Match`."""
    found = await state_of(request).agents.agents.view(namespace, name)
    return _tagged(found)


@router.patch(
    "/{name}",
    operation_id="patch_agent",
    response_model=AgentResponse,
    responses={**NO_AGENT, **BUSY, **CHANGED, **LARGE},
)
async def patch_agent(
    request: Request,
    name: str,
    body: PatchAgent,
    namespace: Namespace,
    if_match: Annotated[str | None, Header(description="ETags; the agent is changed only if it has one.")] = None,
) -> Json:
    """Change an agent: all or nothing, with effect from its next task. `instructions` assign a task (409 if busy)."""
    body.refuse_unsupported()
    services, settings = state_of(request).agents, settings_given(body)
    if body.instructions is None and not settings:
        await services.agents.one(namespace, name)
        unknown = "; ".join(warnings_about(body))
        raise Invalid(f"there is nothing to change: name at least one field{unknown and f' ({unknown})'}")
    changed = await services.requests.change(
        namespace, name, body.instructions, settings, etags(if_match), rights_of(request)
    )
    return _tagged(changed, body)


@router.delete("/{name}", operation_id="delete_agent", response_model=Deleted, responses=NO_AGENT)
async def delete_agent(
    request: Request,
    name: str,
    namespace: Namespace,
    recreate_pod: Annotated[str | None, Query(alias="recreatePod", description=NO_EFFECT)] = None,
    force: Annotated[str | None, Query(description=NO_EFFECT)] = None,
) -> Json:
    """Delete an agent with its pod, disk, settings and events. Its name can be used again at once."""
    await state_of(request).agents.agents.delete(namespace, name)
    return answer(Deleted(status="deleted", name=name))


@router.post(
    "/{name}/cancel", operation_id="cancel_agent_task", response_model=AgentAccepted, responses={**NO_AGENT, **BUSY}
)
async def cancel_agent_task(request: Request, name: str, namespace: Namespace) -> Json:
    """End the running task gracefully; the agent stays for the next one."""
    await state_of(request).agents.agents.cancel(namespace, name)
    return answer(AgentAccepted(status="cancelling", name=name))


@router.get("/{name}/events", operation_id="get_agent_events", response_model=EventPage, responses=NO_AGENT)
async def get_agent_events(
    request: Request,
    name: str,
    namespace: Namespace,
    limit: Annotated[str, Query(description="1 to 200; more is taken as 200.")] = str(EVENTS_DEFAULT),
    before: Annotated[str | None, Query(description="An event id or an RFC 3339 time.")] = None,
    after: Annotated[str | None, Query(description="An event id or an RFC 3339 time.")] = None,
    around: Annotated[str | None, Query(description="An event id or an RFC 3339 time.")] = None,
    types: Annotated[str | None, Query(description="Only these, separated by commas.")] = None,
    source: Annotated[str | None, Query(description=NO_EFFECT)] = None,
) -> Json:
    """Return the agent's most recent events, oldest first; or those before, after or around a cursor."""
    size = page_size(limit, EVENTS_MAX)
    if sum(cursor is not None for cursor in (before, after, around)) > 1:
        raise Invalid("give one of before, after and around", field="after")
    page = await state_of(request).agents.history.page(
        namespace, name, PageRequest(size, before, after, around, event_types(types))
    )
    # The entries are JSON already. Decoding them would cost more than the rest of the request.
    flags = (b',"gap":true' if page.gap else b"") + (b',"cut":true' if page.is_cut else b"")
    return Json(b'{"agent":' + orjson.dumps(name) + b',"events":[' + b",".join(page.entries) + b"]" + flags + b"}")


def _tagged(found: Versioned, body: PatchAgent | None = None) -> Json:
    return answer(found.agent, body, headers={"ETag": found.etag})
