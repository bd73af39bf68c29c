"""`/api/v1/agents`."""

import re
from typing import Annotated

import orjson
from fastapi import APIRouter, Header, Query, Request
from ulid import ULID

from komputer.api.auth import Sight, may_use, permission
from komputer.api.idempotency import request_id
from komputer.api.routes.shared import (
    BUSY,
    ERRORS,
    LARGE,
    NO_AGENT,
    Json,
    Namespace,
    agents,
    in_namespace,
    refusal,
)
from komputer.api.schemas.agents import (
    AgentCreated,
    AgentList,
    AgentResponse,
    CreateAgent,
    Done,
    EventPage,
    PatchAgent,
    settings_given,
)
from komputer.api.typos import wanted_types, warned
from komputer.domain.errors import Invalid
from komputer.events.log import Log
from komputer.kube import AGENTS, CONNECTORS, SECRETS
from komputer.services.agents.agents import Shown, with_defaults
from komputer.services.agents.claim import NewTask
from komputer.services.agents.listing import query
from komputer.services.agents.view import encoded

EVENTS_DEFAULT, EVENTS_MAX = 50, 200
WHOLE_NUMBER = re.compile(r"\s*\+?0*([0-9]{1,9})\s*")

NO_EFFECT = "For published clients, which send it: no effect."
CHANGED = refusal(412, "It was changed meanwhile.")

router = APIRouter(prefix="/api/v1/agents", tags=["agents"], responses=ERRORS)


def tagged(shown: Shown, more: dict[str, list[str]] | None = None) -> Json:
    """The agent, and `more` fields of the answer."""
    body = shown.body[:-1] + b"," + orjson.dumps(more)[1:] if more else shown.body
    return Json(body, headers={"ETag": shown.etag})


def etags(if_match: str | None) -> list[str] | None:
    """Of an If-Match header; None for none, and for `*`, which any agent is. Weak ones match nothing."""
    return None if if_match is None or if_match.strip() == "*" else [part.strip() for part in if_match.split(",")]


@router.post(
    "",
    operation_id="create_agent",
    status_code=201,
    response_model=AgentCreated,
    responses={200: {"model": AgentCreated, "description": "The agent existed and has the task now."}, **BUSY, **LARGE},
)
async def create_agent(request: Request, body: CreateAgent, namespace: Namespace) -> Json:
    """Start an agent, or give an idle one its next task. A busy one answers 409."""
    body.refuse_what_is_not_built()
    await may_use(request, CONNECTORS, namespace, body.connectors)
    await may_use(request, SECRETS, namespace, body.secret_refs)
    await agents(request).refuse_unknown_connectors(namespace, body.connectors)
    await agents(request).secrets.refuse_unusable(namespace, body.secret_refs)
    given = settings_given(body)
    assigned = await in_namespace(
        request,
        namespace,
        lambda: agents(request).create_or_assign(
            namespace,
            body.name,
            body.instructions,
            with_defaults(given),
            given,
            secrets=body.secrets,
            request=request_id(request),
            permission=permission(request, namespace),
        ),
    )
    status = request.app.state.settings.create_status or (201 if assigned.is_new else 200)
    return Json(orjson.dumps(assigned.body | warned(body)), status, {"ETag": assigned.etag})


@router.get("", operation_id="list_agents", response_model=AgentList)
async def list_agents(
    request: Request,
    namespace: Annotated[str | None, Query()] = None,
    status: Annotated[str | None, Query(description="A phase, such as `Running`.")] = None,
    task_status: Annotated[str | None, Query(alias="taskStatus", description="Such as `InProgress`.")] = None,
    label: Annotated[list[str] | None, Query(description="`key=value`; an agent has all that are named.")] = None,
    q: Annotated[str | None, Query(description="In the name, the instructions or the last message.")] = None,
    sort: Annotated[
        str | None,
        Query(
            description="`created`, `lastActive`, `status`, `model`, `cost`, `name`; with a `-` descending. Without it "
            "the newest come first."
        ),
    ] = None,
    limit: Annotated[str | None, Query(description="How many at most; without it all.")] = None,
    offset: Annotated[str | None, Query(description="How many to leave out; the last answer's `nextOffset`.")] = None,
    hide_archived: Annotated[str | None, Query(alias="hideArchived", description="No agent is archived yet.")] = None,
) -> Json:
    """Every agent, or those that the filters mean, the newest first or as `sort` says."""
    asked = query(request.query_params.multi_items())
    sight = Sight(request, "list", AGENTS)
    seen = await sight.among(lambda: [asked.namespace] if asked.namespace else agents(request).namespaces())
    return Json(agents(request).list(asked, seen))


@router.get("/{name}", operation_id="get_agent", response_model=AgentResponse, responses=NO_AGENT)
async def get_agent(request: Request, name: str, namespace: Namespace) -> Json:
    """One agent as it is now. Its ETag names the state of what PATCH changes, for `If-Match`."""
    return tagged(await agents(request).shown(namespace, name))


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
    if_match: Annotated[str | None, Header(description="ETags of the state that is to be changed.")] = None,
) -> Json:
    """Change an agent: all or nothing, at its next task. `instructions` assign a task (409 where it has one)."""
    body.refuse_what_is_not_built()
    await agents(request).one(namespace, name)
    await may_use(request, CONNECTORS, namespace, body.connectors)
    await may_use(request, SECRETS, namespace, body.secret_refs)
    await agents(request).refuse_unknown_connectors(namespace, body.connectors)
    await agents(request).secrets.refuse_unusable(namespace, body.secret_refs)
    given = settings_given(body)
    if body.instructions is not None:
        await agents(request).assign(namespace, name, NewTask(str(ULID()), body.instructions), given, etags(if_match))
    elif given:
        await agents(request).change(namespace, name, given, etags(if_match))
    else:
        unknown = "; ".join(warned(body).get("warnings", ()))
        raise Invalid(f"there is nothing to change: name at least one field{unknown and f' ({unknown})'}")
    return tagged(await agents(request).shown(namespace, name), warned(body))


@router.delete("/{name}", operation_id="delete_agent", response_model=Done, responses=NO_AGENT)
async def delete_agent(
    request: Request,
    name: str,
    namespace: Namespace,
    recreate_pod: Annotated[str | None, Query(alias="recreatePod", description=NO_EFFECT)] = None,
    force: Annotated[str | None, Query(description=NO_EFFECT)] = None,
) -> Json:
    """Delete an agent with its pod, disk, settings and events. Its name can be used again at once."""
    await agents(request).delete(namespace, name)
    return Json(encoded({"status": "deleted", "name": name}))


@router.post("/{name}/cancel", operation_id="cancel_agent_task", response_model=Done, responses={**NO_AGENT, **BUSY})
async def cancel_agent_task(request: Request, name: str, namespace: Namespace) -> Json:
    """End the running task gracefully; the agent stays for the next one."""
    await agents(request).cancel(namespace, name)
    return Json(encoded({"status": "cancelling", "name": name}))


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
    """The agent's most recent events, oldest first; or those before, after or around a cursor."""
    count = WHOLE_NUMBER.fullmatch(limit)
    if count is None or int(count[1]) < 1:
        raise Invalid("limit must be a whole number, 1 or more", field="limit")
    if sum(cursor is not None for cursor in (before, after, around)) > 1:
        raise Invalid("give one of before, after and around", field="after")
    uid = (await agents(request).one(namespace, name))["metadata"]["uid"]
    log: Log = request.app.state.log
    page = await log.page(
        namespace,
        name,
        uid=uid,
        limit=min(int(count[1]), EVENTS_MAX),
        before=before,
        after=after,
        around=around,
        types=wanted_types(types),
    )
    notes = (b',"gap":true' if page.gap else b"") + (b',"cut":true' if page.is_cut else b"")
    return Json(b'{"agent":' + orjson.dumps(name) + b',"events":[' + b",".join(page.entries) + b"]" + notes + b"}")
