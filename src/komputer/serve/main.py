"""`python -m komputer.serve api|gateway|operator|offline-model [FLAGS]`, and `komputer serve …`."""

import sys
from collections.abc import Sequence
from typing import Any

import uvloop
from pydantic import ValidationError
from pydantic_settings import CliApp, SettingsError

from komputer.domain.errors import KomputerError
from komputer.http import descriptors
from komputer.serve.processes import Api, GatewayCommand, OfflineModel, Operator, Probe

PARTS: dict[str, Any] = {
    "api": Api,
    "gateway": GatewayCommand,
    "operator": Operator,
    "offline-model": OfflineModel,
    "probe": Probe,
}


def main(arguments: Sequence[str]) -> int:
    """The exit code: 0 after SIGTERM, 1 where it cannot run, 2 for wrong usage."""
    part = PARTS.get(arguments[0]) if arguments else None
    if part is None:
        known = "|".join(PARTS)
        print(f"usage: komputer serve {known} [--help] [FLAGS]", file=sys.stderr)
        return 2
    try:
        settings = CliApp.run(part, cli_args=[*arguments[1:]], cli_exit_on_error=False)
    except ValidationError as wrong:
        for each in wrong.errors(include_url=False, include_input=False):
            flag = "".join(f"--{str(at).replace('_', '-')}" for at in each["loc"][:1])
            if each["type"] == "missing":
                print(f"komputer: {flag} is required, or KOMPUTER_{str(each['loc'][0]).upper()}", file=sys.stderr)
                continue
            said = each["msg"].removeprefix("Value error, ")
            print(f"komputer: {flag}: {said}" if flag else f"komputer: {said}", file=sys.stderr)
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
