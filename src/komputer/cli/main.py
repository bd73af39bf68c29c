"""`komputer`: the commands, and how their errors look."""

import os
import sys

RUN_FOR_LONG = ("up", "repair", "serve", "offline-model")
"""Commands that must go on when nobody reads what they print: their output is their own business."""


def main() -> None:
    """Exit codes: 0 done, 1 it failed or was refused, 2 wrong usage, 130 cancelled by Ctrl-C.

    A reader that leaves early (`| head`) is no failure: 0.
    """
    try:
        _main()
    except KeyboardInterrupt:
        sys.exit(130)


def _main() -> None:
    chosen = sys.argv[1:2]
    if chosen == ["up"]:
        from komputer.local import startup

        startup.begin()
    is_for_help = not {"-h", "--help"}.isdisjoint(sys.argv[2:])
    prints_and_ends = is_for_help or set(chosen).isdisjoint(RUN_FOR_LONG)
    if prints_and_ends:
        from komputer.cli import output

        output.prepare()
        sys.argv[1:] = map(_as_utf8, sys.argv[1:])
    from komputer.cli.app import command
    from komputer.client import ApiError
    from komputer.domain.errors import KomputerError

    try:
        command()(prog_name="komputer")
    except (ApiError, KomputerError) as refused:
        from komputer.cli import show

        show.print_error(refused.message, refused.code, "--json" in sys.argv)
        sys.exit(1)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    finally:
        if prints_and_ends:
            sys.stdout.flush()


def _as_utf8(argument: str) -> str:
    """An argument as the UTF-8 that it was typed in, also where the locale says ASCII. What is not UTF-8 is left as it
    is; who sends it refuses it."""
    try:
        return os.fsencode(argument).decode("utf-8")
    except UnicodeError:
        return argument
