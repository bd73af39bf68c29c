"""The base classes of the custom resources, and helpers for manifests."""

import copy
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails

from komputer.domain import names
from komputer.domain.ref import ObjectRef

Manifest = dict[str, Any]
"""A Kubernetes object as JSON."""

CONDITION_LIMIT = 1024
"""Maximum length of a condition's message in characters; a longer message is cut. Kubernetes allows 32768, but people
read one line."""


class WireModel(BaseModel):
    """Part of a resource or message: camelCase on the wire, snake_case in Python, immutable. Unknown fields are
    ignored."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True, serialize_by_alias=True
    )

    def to_wire(self) -> Manifest:
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


Preserved = Annotated[
    dict[str, Any], Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True, "type": "object"})
]
"""A part that Kubernetes defines and validates, such as a PodSpec. It is stored unchanged."""

Int32 = Annotated[int, Field(ge=-(2**31), le=2**31 - 1, json_schema_extra={"format": "int32"})]


def _within_64_bits(value: int) -> int:
    if not -(2**63) <= value < 2**63:
        raise ValueError("must have 64 bits at most")
    return value


Int64 = Annotated[int, AfterValidator(_within_64_bits), Field(json_schema_extra={"format": "int64"})]
Decimal4 = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?$", max_length=40)]
"""US dollars as a decimal string. The platform writes at least four fraction digits."""


class Condition(WireModel):
    """A condition as in metav1.Condition. `reason` is CamelCase and stable, `message` is for people."""

    type: Annotated[str, Field(description="What the condition is about, in CamelCase, such as Ready.", max_length=316)]
    status: Annotated[
        Literal["True", "False", "Unknown"], Field(description="Whether the condition holds: True, False or Unknown.")
    ]
    reason: Annotated[
        str, Field(description="Why, as one CamelCase word that programs may compare.", max_length=1024)
    ] = ""
    message: Annotated[str, Field(description="Why, as a sentence for people.", max_length=32768)] = ""
    observed_generation: Annotated[
        Int64 | None, Field(description="metadata.generation of the object that the condition was judged by.")
    ] = None
    last_transition_time: Annotated[
        str | None,
        Field(description="When the status of the condition last changed.", json_schema_extra={"format": "date-time"}),
    ] = None


class ConditionsStatus(WireModel):
    """The status of a resource that is only read. The operator writes it."""

    observed_generation: Annotated[
        Int64 | None, Field(description="metadata.generation that the operator last acted on.")
    ] = None
    conditions: Annotated[
        list[Condition],
        Field(
            description="What holds for the object now, and why; one entry of each type.",
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        ),
    ] = Field(default_factory=list)


class Metadata(WireModel):
    """The fields of ObjectMeta that the platform reads."""

    name: str = ""
    namespace: str | None = None
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    owner_references: list[dict[str, Any]] = Field(default_factory=list)


class Resource(WireModel):
    """A custom resource. Subclasses define their names and columns; `crds.py` generates the manifests from them."""

    kind_name: ClassVar[str]
    plural: ClassVar[str]
    namespaced: ClassVar[bool] = True
    columns: ClassVar[tuple["PrinterColumn", ...]] = ()
    ignored_fields: ClassVar[tuple[str, ...]] = ()
    """Paths of spec fields that are accepted and have no effect in this release, as Python attributes: `redis.address`.
    The condition FieldsSupported in the status names those that are set."""

    metadata: Metadata = Field(default_factory=Metadata)

    @classmethod
    def as_controller(cls, name: str, uid: str) -> Manifest:
        """Return the ownerReference that makes this object the controller of a child. Garbage collection deletes the
        child with its owner."""
        return {
            "apiVersion": names.API_VERSION,
            "kind": cls.kind_name,
            "name": name,
            "uid": uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }

    @classmethod
    def salvaged(cls, manifest: Manifest, within: str | None = None) -> tuple[Self, list[str]]:
        """Return the object without its invalid values, and the paths of these values. With `within` (such as
        `status`), only values below that field are removed, and an invalid value elsewhere raises.

        This is for showing an object that bypassed the schema or was written by another version; decisions need the
        complete object. Raises `ValidationError` if a required field outside of lists and optional objects is invalid.
        """
        left_out: list[str] = []
        while True:
            try:
                return cls.model_validate(manifest), left_out
            except ValidationError as wrong:
                paths = [_to_drop(error) for error in wrong.errors(include_input=False, include_url=False)]
                if any(len(path) < 2 or within not in (None, path[0]) for path in paths):
                    raise
                if not left_out:
                    manifest = copy.deepcopy(manifest)
                # Delete from the end of each list, so that the indexes in the remaining paths stay valid.
                order = sorted(set(paths), key=lambda path: [(isinstance(part, str), part) for part in path])
                dropped = [path for path in reversed(order) if _dropped(manifest, path)]
                if not dropped:
                    raise
                left_out += [".".join(map(str, path)) for path in dropped]

    @property
    def ref(self) -> ObjectRef:
        """The namespace and name of the object."""
        return ObjectRef(self.metadata.namespace or "", self.metadata.name)

    def ignored(self) -> list[str]:
        """Return the wire paths of the ignored fields whose value differs from their default."""
        return [path for each in self.ignored_fields if (path := _path_if_set(self, ["spec", *each.split(".")]))]

    @property
    def key(self) -> str:
        """The object as `namespace/name`, for logs."""
        return str(self.ref)

    @property
    def is_terminating(self) -> bool:
        return self.metadata.deletion_timestamp is not None


def _path_if_set(parent: Any, attributes: list[str]) -> str | None:
    """Return the wire path of a field without its first part (`spec`); None if the value is empty or the default of its
    field."""
    path = []
    for attribute in attributes:
        if parent is None:
            return None
        field, parent = type(parent).model_fields[attribute], getattr(parent, attribute)
        path.append(field.alias or attribute)
    is_set = parent not in (None, "", 0, [], {}) and parent != field.get_default(call_default_factory=True)
    return ".".join(path[1:]) if is_set else None


def _to_drop(error: ErrorDetails) -> tuple[str | int, ...]:
    """Return the path of the value to drop. For a required field that is missing, this is the object around it."""
    path = error["loc"][:-1] if error["loc"][-1:] == ("[key]",) else error["loc"]
    return path[:-1] if error["type"] == "missing" else path


def _dropped(manifest: Any, path: tuple[str | int, ...]) -> bool:
    """Remove the value at `path` from `manifest`. Returns False if it is not there, or was removed with its parent."""
    try:
        for part in path[:-1]:
            manifest = manifest[part]
        del manifest[path[-1]]
    except (KeyError, IndexError, TypeError):
        return False
    return True


def fields_of(manifest: Manifest, part: Literal["spec", "status"]) -> Manifest:
    """Return the `spec` or `status` of an unvalidated manifest; an empty object if it is missing or is not an object.
    Its fields may have any type."""
    found = manifest.get(part)
    return found if isinstance(found, dict) else {}


def texts_in(value: Any) -> list[str]:
    """Return the strings in a list; an empty list for a value that is not a list."""
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


class PrinterColumn(WireModel):
    """A printer column of `kubectl get`. Priority 1 shows with `-o wide` only."""

    name: str
    type: Literal["string", "integer", "date", "boolean", "number"]
    json_path: Annotated[str, Field(alias="jsonPath")]
    priority: int = 0
    description: str = ""


AGE = PrinterColumn(name="Age", type="date", json_path=".metadata.creationTimestamp")


def rfc3339(moment: datetime) -> str:
    """Return the time as Kubernetes writes it: whole seconds, UTC, `Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def with_condition(conditions: list[Condition], new: Condition, now: datetime) -> list[Condition]:
    """Return the conditions with `new` added, or in place of the condition of the same type. `lastTransitionTime`
    changes only if the status does. A message over `CONDITION_LIMIT` is cut."""
    old = next((c for c in conditions if c.type == new.type), None)
    since = old.last_transition_time if old and old.status == new.status else None
    message = new.message if len(new.message) <= CONDITION_LIMIT else new.message[: CONDITION_LIMIT - 1] + "…"
    kept = new.model_copy(update={"last_transition_time": since or rfc3339(now), "message": message})
    return [kept if c.type == new.type else c for c in conditions] if old else [*conditions, kept]
