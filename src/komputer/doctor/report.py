"""The results of checks, and the loop that runs them."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from komputer.domain.errors import KomputerError

S = TypeVar("S")
State = Literal["ok", "warning", "failed", "skipped"]


@dataclass(frozen=True)
class Result:
    """The result of one check. `fix` says how to fix what is wrong; empty for `ok` and `skipped`."""

    state: State
    message: str
    fix: str = ""


def ok(message: str) -> Result:
    return Result("ok", message)


def warning(message: str, fix: str) -> Result:
    return Result("warning", message, fix)


def failed(message: str, fix: str = "") -> Result:
    return Result("failed", message, fix)


def skipped(message: str) -> Result:
    return Result("skipped", message)


@dataclass(frozen=True)
class Check(Generic[S]):
    """A named check. It also fails if `examine` raises `KomputerError` or `OSError`."""

    name: str
    examine: Callable[[S], Awaitable[Result]]


@dataclass(frozen=True)
class Finding(Result):
    """The result of the check named `check`."""

    check: str = ""

    def to_wire(self) -> dict[str, str]:
        fields = {"check": self.check, "state": self.state, "message": self.message, "fix": self.fix}
        return {key: value for key, value in fields.items() if value}


async def run(checks: Iterable[Check[S]], subject: S, report: Callable[[Finding], None]) -> list[Finding]:
    """Run the checks one after the other and return their findings. `report` gets each as soon as it is known."""
    findings = []
    for check in checks:
        try:
            result = await check.examine(subject)
        except KomputerError as error:
            result = failed(error.message)
        except OSError as error:
            where = f": {error.filename}" if error.filename else ""
            result = failed(f"{error.strerror or error}{where}")
        finding = Finding(result.state, result.message, result.fix, check.name)
        report(finding)
        findings.append(finding)
    return findings
