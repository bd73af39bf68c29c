"""The catalogue of well-known MCP servers, with the texts that a form shows for each."""

from typing import Annotated, Any, Final

from pydantic import Field

from komputer.domain.base import WireModel

_ONLY_A_TOKEN: Final = "Paste it here. It is stored in a Secret, and only the gateway ever sends it."


class ConnectorTemplate(WireModel):
    """A well-known server, and what a form must ask for to create a connector to it."""

    service: str
    display_name: str
    description: str
    url: Annotated[str, Field(description="Empty if the server cannot be used; `__custom__` if the user enters it.")]
    auth_type: str
    auth_label: str
    auth_placeholder: str
    guide_steps: list[str]
    color: str
    logo_url: str
    manifest: Annotated[dict[str, Any] | None, Field(description="The manifest of an app that the user creates.")] = (
        None
    )
    manifest_after_step: Annotated[int | None, Field(description="Index of the step that refers to it.")] = None


TEMPLATES: Final[tuple[ConnectorTemplate, ...]] = (
    ConnectorTemplate(
        service="github",
        display_name="GitHub",
        description="Repositories, issues, pull requests and workflows.",
        url="https://api.githubcopilot.com/mcp/",
        auth_type="token",
        auth_label="Personal access token",
        auth_placeholder="ghp_…",
        guide_steps=[
            "On GitHub open Settings, Developer settings, Personal access tokens.",
            "Make a fine-grained token for the repositories that your agents may use, with no more rights than needed.",
            _ONLY_A_TOKEN,
        ],
        color="#24292f",
        logo_url="https://github.com/favicon.ico",
    ),
    ConnectorTemplate(
        service="atlassian",
        display_name="Atlassian",
        description="Jira issues and Confluence pages.",
        url="https://mcp.atlassian.com/v1/mcp",
        auth_type="token",
        auth_label="API token",
        auth_placeholder="ATATT…",
        guide_steps=[
            "Open the security page of your Atlassian account and make an API token.",
            "An administrator has to allow API tokens for Atlassian's MCP server.",
            _ONLY_A_TOKEN,
        ],
        color="#0052cc",
        logo_url="https://www.atlassian.com/favicon.ico",
    ),
    ConnectorTemplate(
        service="slack",
        display_name="Slack",
        description="Channels, messages and search.",
        url="https://mcp.slack.com/mcp",
        auth_type="token",
        auth_label="User token",
        auth_placeholder="xoxp-…",
        guide_steps=[
            "Open api.slack.com/apps and choose to make an app from a manifest.",
            "Take the manifest below, and change its name if you like.",
            "Install the app into your workspace and copy its user token.",
            _ONLY_A_TOKEN,
        ],
        color="#4a154b",
        logo_url="https://slack.com/favicon.ico",
        manifest={
            "display_information": {"name": "Komputer agents"},
            "oauth_config": {
                "scopes": {
                    "user": [
                        "channels:history",
                        "channels:read",
                        "chat:write",
                        "groups:history",
                        "groups:read",
                        "search:read",
                        "users:read",
                    ]
                }
            },
            "settings": {"org_deploy_enabled": False, "socket_mode_enabled": False, "token_rotation_enabled": False},
        },
        manifest_after_step=1,
    ),
    ConnectorTemplate(
        service="gmail",
        display_name="Gmail",
        description="Mail. Needs OAuth, which this version does not offer yet.",
        url="",
        auth_type="oauth",
        auth_label="OAuth client",
        auth_placeholder="",
        guide_steps=["Google lets nobody in without OAuth; this version cannot do that yet."],
        color="#ea4335",
        logo_url="https://mail.google.com/favicon.ico",
    ),
    ConnectorTemplate(
        service="google-calendar",
        display_name="Google Calendar",
        description="Calendars and events. Needs OAuth, which this version does not offer yet.",
        url="",
        auth_type="oauth",
        auth_label="OAuth client",
        auth_placeholder="",
        guide_steps=["Google lets nobody in without OAuth; this version cannot do that yet."],
        color="#4285f4",
        logo_url="https://calendar.google.com/favicon.ico",
    ),
    ConnectorTemplate(
        service="linear",
        display_name="Linear",
        description="Issues, projects and cycles.",
        url="https://mcp.linear.app/mcp",
        auth_type="token",
        auth_label="API key",
        auth_placeholder="lin_api_…",
        guide_steps=[
            "In Linear open Settings, Security & access, and make a personal API key.",
            _ONLY_A_TOKEN,
        ],
        color="#5e6ad2",
        logo_url="https://linear.app/favicon.ico",
    ),
    ConnectorTemplate(
        service="notion",
        display_name="Notion",
        description="Pages and databases. Needs OAuth, which this version does not offer yet.",
        url="https://mcp.notion.com/mcp",
        auth_type="oauth",
        auth_label="OAuth client",
        auth_placeholder="",
        guide_steps=["Notion's own server lets nobody in without OAuth; this version cannot do that yet."],
        color="#000000",
        logo_url="https://www.notion.so/favicon.ico",
    ),
    ConnectorTemplate(
        service="excalidraw",
        display_name="Excalidraw",
        description="Diagrams. Asks for no credential.",
        url="https://mcp.excalidraw.com/mcp",
        auth_type="none",
        auth_label="",
        auth_placeholder="",
        guide_steps=["There is nothing to prepare."],
        color="#6965db",
        logo_url="https://excalidraw.com/favicon.ico",
    ),
    ConnectorTemplate(
        service="custom",
        display_name="Another server",
        description="Any MCP server that speaks streamable HTTP.",
        url="__custom__",
        auth_type="token",
        auth_label="Token",
        auth_placeholder="",
        guide_steps=[
            "Give the address of the server's MCP endpoint; it often ends in /mcp.",
            "If it wants a token under a header of its own, choose the type header and name that.",
            _ONLY_A_TOKEN,
        ],
        color="#64748b",
        logo_url="",
    ),
)
