"""`komputer`: the commands, and how their errors look."""

import json
import sys


def main() -> None:
    """Exit codes: 0 done, 1 it failed or was refused, 2 wrong usage, 130 cancelled by Ctrl-C."""
    if sys.argv[1:2] == ["up"]:
        from komputer.local import startup

        startup.begin()
    from komputer.cli.app import app
    from komputer.client import ApiError
    from komputer.resources.errors import KomputerError

    try:
        app(prog_name="komputer")
    except (ApiError, KomputerError) as refused:
        if "--json" in sys.argv:
            print(json.dumps({"error": refused.message, "code": refused.code}), file=sys.stderr)
        else:
            print(f"komputer: {refused.message}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
