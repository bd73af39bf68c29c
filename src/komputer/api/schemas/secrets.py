"""Requests and responses of `/api/v1/secrets`."""

from komputer.api.schemas.agents import Body, Name, ObjectName, SecretData
from komputer.api.schemas.responses import ResponseBase
from komputer.domain.base import WireModel
from komputer.services.secrets import SecretView


class CreateSecret(Body):
    """A new Secret."""

    name: ObjectName
    data: SecretData
    namespace: Name | None = None


class UpdateSecret(Body):
    """The complete data: keys that are not named are removed."""

    data: SecretData
    namespace: Name | None = None


class SecretResponse(SecretView, ResponseBase):
    """A Secret without its values."""


class SecretList(WireModel):
    """Secrets, ordered by namespace and name."""

    secrets: list[SecretView]


class SecretNamed(ResponseBase):
    """The Secret that was changed."""

    name: str
    namespace: str
