"""python -m tests.model [exhaust | ablate [rule …] | walk [seconds]]

Without arguments: every large configuration is exhausted and must pass, then each rule is missed once when it is off,
then random walks with everything at once for a minute. Ends with 1 where something is not as it must be.
"""

import sys
import time

from tests.model.configurations import EVERYTHING, LARGE, SHOWS
from tests.model.rules import RULES
from tests.model.search import Found, explore, walk
from tests.model.system import System


def told(name: object, found: Found, since: float) -> None:
    verdict = f"VIOLATION {found.violation}" if found.violation else "passed" if found.is_complete else "cut"
    rest = "" if found.comes_to_rest else ", but it need not come to rest"
    print(f"{name}: {found.worlds} worlds, {time.monotonic() - since:.0f} s: {verdict}{rest}", flush=True)
    for i, label in enumerate(found.trace[-60:], 1):
        print(f"    {i}. {label}")


def exhaust() -> bool:
    """Whether every large configuration holds."""
    passed = True
    for configuration in LARGE:
        since = time.monotonic()
        found = explore(System(**configuration), seconds=900)
        told(configuration, found, since)
        passed = passed and found.is_complete and found.comes_to_rest
    return passed


def ablate(rules: list[str]) -> bool:
    """Whether each rule is missed when it is off."""
    missed = True
    for rule in rules or list(RULES):
        since = time.monotonic()
        found = explore(System([rule], **SHOWS[rule]), seconds=120)
        told(f"without {rule}", found, since)
        missed = missed and found.violation is not None
    return missed


def wander(seconds: float) -> bool:
    since = time.monotonic()
    found = walk(System(**EVERYTHING), seconds=seconds)
    told("random walks", found, since)
    return found.violation is None


def main(arguments: list[str]) -> int:
    match arguments:
        case []:
            passed = all([exhaust(), ablate([]), wander(60)])
        case ["exhaust"]:
            passed = exhaust()
        case ["ablate", *rules] if set(rules) <= set(RULES):
            passed = ablate(rules)
        case ["walk", *seconds]:
            passed = wander(float(seconds[0]) if seconds else 60)
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
