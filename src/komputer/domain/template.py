"""KomputerAgentTemplate and KomputerAgentClusterTemplate: the pods and disks of agents."""

from typing import Annotated, ClassVar, Final

from pydantic import Field

from komputer.domain.agent import Storage
from komputer.domain.base import AGE, ConditionsStatus, Int32, Preserved, PrinterColumn, Resource, WireModel


class SecretKeyRef(WireModel):
    """A key of a Secret."""

    name: Annotated[str, Field(description="Name of the Secret.")]
    key: Annotated[str, Field(description="Key in the Secret's data.")]
    namespace: Annotated[
        str | None,
        Field(description="Namespace of the Secret; without it that of the object, for a cluster-scoped object any."),
    ] = None


class TemplateSpec(WireModel):
    """A PodSpec whose container `agent` runs the runtime, and the disk."""

    pod_spec: Annotated[Preserved, Field(description="A PodSpec; its container `agent` (or its first) runs the agent.")]
    storage: Storage = Field(default_factory=Storage)
    max_concurrent_agents: Annotated[
        Int32, Field(description="How many agents of the template may run at once; 0: any number. No effect yet.", ge=0)
    ] = 0
    anthropic_key_secret_ref: Annotated[
        SecretKeyRef | None,
        Field(description="For older manifests. Not used: the gateway holds the model's credential, no pod does."),
    ] = None


IGNORED_FIELDS: Final = ("max_concurrent_agents", "anthropic_key_secret_ref")


class Template(Resource):
    """A template of one namespace; it wins over a cluster template of its name."""

    kind_name: ClassVar[str] = "KomputerAgentTemplate"
    plural: ClassVar[str] = "komputeragenttemplates"
    columns: ClassVar[tuple[PrinterColumn, ...]] = (AGE,)
    ignored_fields: ClassVar[tuple[str, ...]] = IGNORED_FIELDS

    spec: TemplateSpec
    status: ConditionsStatus = Field(default_factory=ConditionsStatus)


class ClusterTemplate(Resource):
    """A template that every namespace may use."""

    kind_name: ClassVar[str] = "KomputerAgentClusterTemplate"
    plural: ClassVar[str] = "komputeragentclustertemplates"
    namespaced: ClassVar[bool] = False
    columns: ClassVar[tuple[PrinterColumn, ...]] = (AGE,)
    ignored_fields: ClassVar[tuple[str, ...]] = IGNORED_FIELDS

    spec: TemplateSpec
    status: ConditionsStatus = Field(default_factory=ConditionsStatus)
