"""Standard output and error: any encoding, and readers that exit early."""

import codecs
import io
import os
import sys
from typing import Final, NoReturn

ERRORS: Final = "komputer-output"
"""The name of the codec error handler: it writes the command line's symbols in ASCII, and other characters that cannot
be encoded as `\\uXXXX`."""
_ASCII: Final = {"▶": ">", "↻": "~", "›": ">", "…": "...", "→": "->", "←": "<-", "✗": "x", "≡": "=", "✓": "+"} | {
    "■": "#",
    "·": "-",
}


def _encodable(wrong: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(wrong, UnicodeEncodeError):
        raise wrong
    text = wrong.object[wrong.start : wrong.end]
    return "".join(_ASCII.get(char) or char.encode("ascii", "backslashreplace").decode() for char in text), wrong.end


class Output(io.TextIOWrapper):
    """A stream that can encode any text. If its reader has exited (`| head`), the program exits with 0. If a write
    fails for another reason (a full disk), the program exits with 1 and a message."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError as wrong:
            self._end(wrong)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as wrong:
            self._end(wrong)

    def _end(self, wrong: OSError) -> NoReturn:
        # The rest of the buffer goes to /dev/null, so that the interpreter can flush it when it exits.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)
        if isinstance(wrong, BrokenPipeError):
            raise SystemExit(0)
        print(f"komputer: the output cannot be written: {wrong.strerror}", file=sys.stderr)
        raise SystemExit(1)


def prepare() -> None:
    """Make it safe to print any text to standard output and error. It is for commands that print and exit."""
    codecs.register_error(ERRORS, _encodable)
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(errors=ERRORS)
    if isinstance(sys.stdout, io.TextIOWrapper):
        is_terminal, encoding = sys.stdout.isatty(), sys.stdout.encoding
        sys.stdout = Output(sys.stdout.detach(), encoding, ERRORS, line_buffering=is_terminal)
    elif sys.stdout is None:  # started with a closed standard output
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for the life of the process
