"""Output in any encoding, to readers that exit early and to full disks; and arguments in any encoding."""

import io
import json
import os
import subprocess
import sys

import pytest
import typer

from komputer.cli.arguments import text_or_stdin
from komputer.cli.main import _as_utf8

KOMPUTER = [sys.executable, "-m", "komputer.cli"]
PRINTING = """
import sys
from komputer.cli import output
output.prepare()
from komputer.cli import show
call = {"tool": "Bash", "input": {"command": "echo \\u00e9 \\u2603 \\ud800"}}
show.print_event({"type": "tool_call", "payload": call})
show.print_json({"text": "\\u00e9 \\u2603 \\ud800 \\U0001f600 \\x9b"})
sys.stdout.flush()
"""
LOCALES = [
    {"PYTHONIOENCODING": "ascii"},
    {"LC_ALL": "C"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"LC_ALL": "POSIX", "PYTHONIOENCODING": "latin-1"},
    {"PYTHONIOENCODING": "utf-8"},
    {"PYTHONIOENCODING": "ascii:strict"},
]


@pytest.mark.parametrize("locale", LOCALES, ids=str)
def test_everything_can_be_printed_in_every_locale(locale: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PRINTING], env={**os.environ, **locale}, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    called, encoded = done.stdout.decode("latin-1").splitlines()
    assert "Bash: echo" in called
    if "0" not in locale.values():  # else the bytes are of an encoding that this test does not know
        text = encoded.encode("latin-1").decode("latin-1" if "latin-1" in locale.values() else "utf-8")
        assert json.loads(text)["text"] == "\u00e9 \u2603 \ud800 \U0001f600 \x9b"


def test_signs_become_ascii_where_they_must() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PRINTING],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
    )
    assert done.stdout.startswith(b"-> Bash: echo \\xe9 \\u2603")


@pytest.mark.parametrize("arguments", [["--help"], ["version"], ["run", "-h"], ["up", "--help"]])
def test_a_reader_that_has_left_is_no_failure(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*KOMPUTER, *arguments], stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_full_disk_is_a_sentence() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*KOMPUTER, "version"], stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1
    assert done.stderr == b"komputer: the output cannot be written: No space left on device\n"


def test_a_closed_output_is_no_failure() -> None:
    done = subprocess.run(["sh", "-c", '"$@" >&-', "sh", *KOMPUTER, "version"], stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_an_argument_is_utf8_also_where_the_locale_is_not() -> None:
    assert _as_utf8("é") == "é"
    assert _as_utf8("\udcff") == "\udcff", "what is not UTF-8 is left to who sends it"


def test_standard_input_that_is_no_text_is_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    def given(data: bytes) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))

    given(" Schreib ein Gedicht über Pods.\n".encode())
    assert text_or_stdin("-") == "Schreib ein Gedicht über Pods."
    for data, words in ((b"\xff", "not UTF-8"), (b" \n", "empty"), (b"x" * (1024 * 1024 + 1), "1 MiB")):
        given(data)
        with pytest.raises(typer.BadParameter, match=words):
            text_or_stdin("-")


def test_names_are_completed_and_an_api_that_is_away_completes_nothing() -> None:
    environment = {"_KOMPUTER_COMPLETE": "complete_bash", "COMP_WORDS": "komputer get a", "COMP_CWORD": "2"}
    environment |= {"KOMPUTER_API": "127.0.0.1:9"}
    done = subprocess.run(KOMPUTER, env={**os.environ, **environment}, capture_output=True, check=False)
    assert (done.stdout.strip(), done.stderr) == (b"", b"")
