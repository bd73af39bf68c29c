"""A child: an object that the operator creates for an agent, and the rules for it. `children.py` has the list."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from komputer.domain.agent import Agent
from komputer.domain.base import Manifest
from komputer.domain.config import ConfigSpec
from komputer.domain.template import TemplateSpec
from komputer.kube import Kind

if TYPE_CHECKING:
    from komputer.operator.agent.observed import Observed

PVC: Final = "pvc"
SETTINGS: Final = "settings"
POD: Final = "pod"

NO_ANNOTATIONS: Final[Mapping[str, str]] = {}


class Replacement(NamedTuple):
    """The decision to delete a child. The next turn creates its successor."""

    due: datetime | None = None
    """The time at which to delete the child; None: now."""
    annotations: Mapping[str, str] = NO_ANNOTATIONS
    """Annotations of the successor, such as how often the child has failed."""
    after_endings: bool = False
    """Whether the tasks that cannot continue without this child must be ended in the log before it is deleted."""


def _no_update(found: Manifest, desired: Manifest) -> Manifest | None:
    return None


def _no_replacement(observed: Observed, found: Manifest, desired: Manifest) -> Replacement | None:
    return None


@dataclass(frozen=True, kw_only=True)
class Child:
    """The rules for one child of every agent. Kubernetes' garbage collector deletes all children with the agent."""

    key: str
    """Identifies it among an agent's children."""
    kind: Kind
    name: Callable[[str], str]
    """Returns the object's name for an agent's name."""
    build: Callable[[Agent, TemplateSpec, ConfigSpec], Manifest]
    """Returns the desired object; a function of `desired/`."""
    stage: int = 0
    """Order of creation. Children of one stage are created concurrently, after those of the stages before."""
    update: Callable[[Manifest, Manifest], Manifest | None] = _no_update
    """Returns the merge patch that turns the existing object into the desired one; None if nothing is to be changed. By
    default an object is never changed."""
    replace: Callable[[Observed, Manifest, Manifest], Replacement | None] = _no_replacement
    """Returns the decision to replace the existing object by the desired one; None if it stays. By default it always
    stays."""
    restores_label: bool = True
    """How to treat an object that has lost the agent's label and is therefore not watched. True: label it again. False:
    delete it and create it again."""
