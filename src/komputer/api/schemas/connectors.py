"""Requests and responses of `/api/v1/connectors` and `/api/v1/connector-templates`."""

from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from komputer.api.schemas.agents import Body, Name
from komputer.api.schemas.responses import Deleted, ResponseBase
from komputer.domain.base import WireModel
from komputer.domain.connector import CLAUDE_NAMES, RESERVED_NAMES, SERVICE, URL_LIMIT, AuthType, Connector, may_be_set
from komputer.domain.errors import Invalid
from komputer.http.validation import SECRET_KEY, SECRET_NAME
from komputer.services.connectors.connectors import Auth
from komputer.services.connectors.templates import ConnectorTemplate
from komputer.services.connectors.tools import OfferedTool
from komputer.services.connectors.view import ConnectorView


def _header(value: Any) -> Any:
    if isinstance(value, str) and not may_be_set(value):
        raise ValueError("must be the name of a header, and not one that HTTP or MCP use themselves")
    return value


def _not_reserved(value: Any) -> Any:
    if isinstance(value, str) and value in RESERVED_NAMES:
        owner = "Claude Code" if value in CLAUDE_NAMES else "the platform"
        raise ValueError(f"is reserved: {owner} has a server of this name, which would hide the connector's tools")
    return value


HeaderName = Annotated[str, BeforeValidator(_header)]
DisplayName = Annotated[str, Field(max_length=256)]
Url = Annotated[str, Field(min_length=1, max_length=URL_LIMIT)]
Token = Annotated[str, Field(max_length=64 * 1024)]
SecretName = Annotated[str, Field(min_length=1, max_length=253, pattern=SECRET_NAME)]
SecretKey = Annotated[str, Field(min_length=1, max_length=253, pattern=SECRET_KEY)]


class _ConnectorBody(Body):
    unsupported: ClassVar[tuple[str, ...]] = ("oauthClientId", "oauthClientSecret")


class CreateConnector(_ConnectorBody):
    """`POST /connectors`. The credential is `token`, or a key of a Secret that exists."""

    name: Annotated[Name, BeforeValidator(_not_reserved)]
    service: Annotated[str, Field(pattern=SERVICE)]
    url: Url
    display_name: DisplayName | None = None
    type: str | None = None
    auth_type: AuthType | None = None
    header_name: HeaderName | None = None
    auth_secret_name: SecretName | None = None
    auth_secret_key: SecretKey | None = None
    token: Annotated[Token | None, Field(repr=False)] = None
    disabled: bool | None = None
    namespace: Name | None = None

    def auth(self) -> Auth:
        """Return the credential. Raises `Invalid` if fields contradict each other."""
        if self.token is not None and self.auth_secret_name is not None:
            raise Invalid("give token or authSecretName, not both", field="token")
        if self.auth_secret_key is not None and self.auth_secret_name is None:
            raise Invalid("authSecretKey needs authSecretName", field="authSecretKey")
        return Auth(self.token, self.auth_secret_name, self.auth_secret_key)

    def spec(self) -> dict[str, Any]:
        """Return the spec. Without a credential and without `authType`, the type is none. Raises `Invalid`."""
        if self.type not in (None, "", "remote"):
            raise Invalid("type must be remote", field="type")
        has_credential = self.token is not None or self.auth_secret_name is not None
        kind = self.auth_type or ("none" if not has_credential else "header" if self.header_name else "token")
        if kind == "oauth":
            raise Invalid(
                "authType oauth is not supported by this version; use token, header or none",
                code="not_supported",
                field="authType",
            )
        if kind == "none" and has_credential:
            raise Invalid("authType none takes no token and no Secret", field="authType")
        if kind != "none" and not has_credential:
            raise Invalid(f"authType {kind} needs token or authSecretName", field="token")
        if (kind == "header") != (self.header_name is not None):
            raise Invalid("headerName is needed with authType header, and only there", field="headerName")
        found = {
            "type": "remote",
            "service": self.service,
            "url": self.url,
            "authType": kind,
            "displayName": self.display_name,
            "headerName": self.header_name,
            "disabled": self.disabled or None,
        }
        return {field: value for field, value in found.items() if value is not None}


class PatchConnector(_ConnectorBody):
    """`PATCH /connectors/{name}`: all or nothing."""

    refused_elsewhere: ClassVar[tuple[str, ...]] = ("authType", "authSecretName", "authSecretKey", "service", "type")

    token: Annotated[Token | None, Field(repr=False)] = None
    disabled: bool | None = None
    url: Url | None = None
    display_name: DisplayName | None = None
    header_name: HeaderName | None = None
    namespace: Name | None = None

    def changes(self, before: Connector) -> dict[str, Any]:
        """Return the fields of spec that are set. Raises `Invalid` if there is nothing to change."""
        for field in self.refused_elsewhere:
            if (self.model_extra or {}).get(field) is not None:
                raise Invalid(
                    f"{field} cannot be changed; delete the connector and create it again",
                    code="not_supported",
                    field=field,
                )
        if self.header_name is not None and before.spec.auth_type != "header":
            raise Invalid("headerName is for connectors of authType header only", field="headerName")
        found = {
            "url": self.url,
            "displayName": self.display_name,
            "headerName": self.header_name,
            "disabled": self.disabled,
        }
        given = {field: value for field, value in found.items() if value is not None}
        if not given and self.token is None:
            raise Invalid(
                "there is nothing to change: name at least one of token, disabled, url, displayName, headerName"
            )
        return given


class ConnectorResponse(ConnectorView, ResponseBase):
    """A connector as of now. `attachedAgents` and `agentNames` are counted at each answer."""


class ConnectorList(WireModel):
    """Connectors, ordered by namespace and name."""

    connectors: list[ConnectorView]


class ConnectorDeleted(Deleted):
    """`agentNames` are the agents that named the connector."""

    agent_names: list[str] | None = None


class ToolList(WireModel):
    """The tools that a connector's server offers."""

    tools: list[OfferedTool]


class ConnectorTemplateList(WireModel):
    """The catalogue of well-known servers."""

    templates: list[ConnectorTemplate]
