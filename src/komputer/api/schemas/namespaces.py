"""The responses of `/api/v1/namespaces` and `/api/v1/templates`."""

from komputer.domain.base import WireModel
from komputer.services.templates import TemplateView


class NamespaceList(WireModel):
    """Names of namespaces."""

    namespaces: list[str]


class TemplateList(WireModel):
    """The cluster's templates, then those of the namespace."""

    templates: list[TemplateView]
