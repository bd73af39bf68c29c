"""Bodies of `/api/v1/secrets`."""

from pydantic import BaseModel

from komputer.api.schemas.agents import Body, Name, ObjectName, ResponseBase, SecretData


class CreateSecret(Body):
    name: ObjectName
    data: SecretData
    namespace: Name | None = None


class UpdateSecret(Body):
    """All of the data: a key that is left out is gone."""

    data: SecretData
    namespace: Name | None = None


class SecretResponse(ResponseBase):
    """Never a value. `agentName`: whose own it is; `agentNames`: who uses it now."""

    name: str
    namespace: str
    keys: list[str]
    managed: bool
    attachedAgents: int
    createdAt: str
    agentName: str | None = None
    agentNames: list[str] | None = None


class SecretList(BaseModel):
    secrets: list[SecretResponse]


class SecretNamed(ResponseBase):
    name: str
    namespace: str
