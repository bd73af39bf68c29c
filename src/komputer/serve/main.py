"""`python -m komputer.serve PROGRAM [FLAGS]`, which is also `komputer serve PROGRAM [FLAGS]`."""

import sys
from collections.abc import Sequence
from typing import Any

import uvloop
from pydantic import ValidationError
from pydantic_settings import CliApp, SettingsError

from komputer.domain.errors import KomputerError
from komputer.http import descriptors
from komputer.serve.flag_errors import explain
from komputer.serve.processes import Api, GatewayCommand, OfflineModel, Operator, Probe

PROGRAMS: dict[str, Any] = {
    "api": Api,
    "gateway": GatewayCommand,
    "operator": Operator,
    "offline-model": OfflineModel,
    "probe": Probe,
}


def main(arguments: Sequence[str]) -> int:
    """Run a program and return the exit code: 0 after SIGTERM or SIGINT, 1 if it cannot run, 2 for wrong usage."""
    program = PROGRAMS.get(arguments[0]) if arguments else None
    if program is None:
        known = "|".join(PROGRAMS)
        print(f"usage: komputer serve {known} [--help] [FLAGS]", file=sys.stderr)
        return 2
    try:
        settings = CliApp.run(program, cli_args=[*arguments[1:]], cli_exit_on_error=False)
    except ValidationError as wrong:
        for sentence in explain(wrong.errors(include_url=False)):
            print(f"komputer: {sentence}", file=sys.stderr)
        return 2
    except SettingsError as wrong:
        print(f"komputer: {wrong}", file=sys.stderr)
        return 2
    descriptors.raise_limit()
    try:
        uvloop.run(settings.run())
    except KomputerError as refused:
        print(f"komputer: {refused.message}", file=sys.stderr)
        return 1
    return 0
