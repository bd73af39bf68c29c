"""What must hold in every world, and in every world that is at rest."""

from tests.model.referee import view
from tests.model.state import World
from tests.model.system import System


def broken(system: System, world: World, is_at_rest: bool) -> str | None:
    """The invariant that does not hold, told with the task that it is about."""
    if world.wrong:
        return world.wrong
    excused = world.losses == {"workspace", "log"}  # one case stays: told in docs/architecture.md
    resource = world.resource
    if not excused and len(set(world.prompts)) < len(world.prompts):
        return f"(3) a prompt was given from the start twice: {world.prompts}"
    if len(set(resource.counted)) < len(resource.counted):
        return f"(4) a cost was counted twice: {resource.counted}"
    if len(set(world.recorded)) < len(world.recorded):
        return "(7) two tasks for one manifest"
    if foreign := [task for task in resource.counted if system.owner(task) != resource.uid]:
        return f"(8) {foreign[0]} of a former agent was accounted to this one"
    return _at_rest(system, world, excused) if is_at_rest else None


def _at_rest(system: System, world: World, excused: bool) -> str | None:
    resource, now = world.resource, view(world.log, system.rule["uid"])
    promised = [*world.claims, *sorted(task for task in now.started if system.owner(task) == resource.uid)]
    never = [task for task in promised if task not in resource.ended]
    if never and not excused:
        return f"(1) {never[0]} was answered 2xx or has started, and never ends"
    recorded = resource.recorded
    if not recorded or recorded.digest != resource.digest or (recorded.id not in resource.ended and not excused):
        return f"(7) the manifest's task {recorded} never runs"
    if not system.is_idle(resource, world):
        return "(5) POST answers 409 for ever, nothing runs"
    mine = now.uid == resource.uid
    if sorted(resource.counted) != sorted(set(resource.ended)) or (
        mine and "log" not in world.losses and now.ended != set(resource.ended)
    ):
        return f"(4) in the log {set(now.ended)}, ended {resource.ended}, counted {resource.counted}"
    return None
