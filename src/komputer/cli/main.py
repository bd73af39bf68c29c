"""`komputer`: runs a command and prints its errors."""

import os
import sys

RUN_FOR_LONG = ("up", "repair", "serve", "offline-model")
"""Commands that must continue when the reader of their output exits. They handle their output themselves."""


def main() -> None:
    """Run the command and exit: 0 done, 1 failed or refused, 2 wrong usage, 130 cancelled by Ctrl-C.

    If the reader of the output exits early (`| head`), the exit code is 0.
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
    """Return the argument decoded as UTF-8, even in an ASCII locale. Bytes that are not UTF-8 stay as they are; they
    are refused when the argument is sent."""
    try:
        return os.fsencode(argument).decode("utf-8")
    except UnicodeError:
        return argument
