"""The command line, as a user runs it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.e2e.platform import Platform, script, until


@contextlib.contextmanager
def started(platform: Platform, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The command line, while it runs; what it prints comes line by line."""
    command = [sys.executable, "-u", "-m", "komputer.cli", *arguments]
    with subprocess.Popen(
        command, env=platform.cli_environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as running:
        yield running
        running.kill()


def line_with(running: subprocess.Popen[str], words: str) -> str:
    """The next line that has the words in it; fails where the output ends before."""
    assert running.stdout
    seen = []
    for line in running.stdout:
        seen.append(line)
        if words in line:
            return line
    raise AssertionError(f"no {words!r} in {seen}")


def test_run_follows_a_task_to_its_end(platform: Platform) -> None:
    steps = script({"tool": "Bash", "input": {"command": "echo hi"}}, {"say": "All done."})
    done = platform.cli("run", "typed", steps)
    assert done.returncode == 0, done.stderr
    assert "All done." in done.stdout
    assert "completed in" in done.stdout
    assert "$" in done.stdout
    failed = platform.cli("run", "typed", script({"fail": 403, "times": 9}), "--json")
    assert failed.returncode == 1
    assert json.loads(failed.stdout.strip().splitlines()[-1])["type"] == "error"


def test_ctrl_c_cancels_the_task(platform: Platform) -> None:
    following = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "komputer.cli",
            "run",
            "broken-off",
            script({"tool": "Bash", "input": {"command": "tail -f /dev/null"}}),
        ],
        env=platform.cli_environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # A shell that runs the tests in the background has SIGINT ignored, which children inherit.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    until(lambda: platform.http.get("/agents/broken-off").status_code == 200, "it is made")
    platform.event("broken-off", "tool_call")
    following.send_signal(signal.SIGINT)
    output, _ = following.communicate(timeout=30)
    assert following.returncode == 130, output
    assert platform.end("broken-off")["type"] == "task_cancelled"


def test_the_other_commands_and_their_errors(platform: Platform) -> None:
    assert platform.cli("run", "listed", script({"say": "Here."})).returncode == 0
    assert "listed" in platform.cli("list").stdout
    assert any(a["name"] == "listed" for a in json.loads(platform.cli("list", "--json").stdout)["agents"])
    assert json.loads(platform.cli("get", "listed", "--json").stdout)["name"] == "listed"
    assert "Here." in platform.cli("events", "listed").stdout
    idle = platform.cli("cancel", "listed")
    assert (idle.returncode, idle.stderr.count("\n")) == (1, 1)
    assert platform.cli("delete", "listed").returncode == 0
    missing = platform.cli("get", "listed", "--json")
    assert missing.returncode == 1
    assert json.loads(missing.stderr)["code"] == "agent_not_found"
    nobody = platform.cli("list", "--api", "http://127.0.0.1:9")
    assert "komputer up" in nobody.stderr
    assert platform.cli("nonsense").returncode == 2


@pytest.mark.parametrize("locale", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C"}])
def test_no_text_of_a_model_and_no_locale_breaks_what_is_printed(platform: Platform, locale: dict[str, str]) -> None:
    said = "before\u2028event: end\u2028\u2028data: x\u0085 \u202eright \u00e9 \U0001f600 \u001b[31mred \u0000 after"
    name = f"speaker-{len(locale)}-{min(locale).lower().replace('_', '-')}"
    done = subprocess.run(
        [sys.executable, "-m", "komputer.cli", "run", name, "-"],
        input=script({"say": said}, text="Sprich, \u00fc.").encode(),
        env={**platform.cli_environment, **locale},
        capture_output=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"after" in done.stdout
    assert b"completed in" in done.stdout
    assert not set(done.stdout) & {0x1B, 0x00, 0x0D}


def test_a_reader_that_leaves_is_no_failure(platform: Platform) -> None:
    platform.assign("headed", script(*({"say": f"Line {n}."} for n in range(20))))
    platform.end("headed")
    for arguments in ("events headed --json", "events headed -v", "list", "get headed"):
        done = subprocess.run(
            ["bash", "-c", f'"$0" -m komputer.cli {arguments} | head -n 1; echo "${{PIPESTATUS[0]}}"', sys.executable],
            env=platform.cli_environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stdout.splitlines()[-1] == "0", arguments
        assert done.stderr == ""


def test_run_prints_at_once_why_an_agent_cannot_start_and_what_changes(platform: Platform) -> None:
    with started(platform, "run", "hopeless", "Say hello.", "--template", "nope") as running:
        assert "nope" in line_with(running, "waiting:")
        listed = platform.cli("list").stdout.splitlines()
        assert [line for line in listed if "hopeless" in line and "waiting" in line and "nope" in line]
        platform.http.patch("/agents/hopeless", json={"templateRef": "default"})
        line_with(running, "completed in")
        assert running.wait(30) == 0


def test_the_deletion_of_a_followed_agent_is_reported(platform: Platform) -> None:
    platform.assign("doomed", script({"tool": "Bash", "input": {"command": "tail -f /dev/null"}}))
    platform.event("doomed", "tool_call")
    with started(platform, "events", "doomed", "-f") as following:
        line_with(following, "Bash")
        assert platform.cli("delete", "doomed").returncode == 0
        line_with(following, "agent doomed was deleted")
        assert following.wait(30) == 1


def test_names_never_lead_elsewhere_and_arguments_that_are_no_text_are_refused(platform: Platform) -> None:
    for name in ("../connectors", "..", "a/events", "\udcff"):
        done = platform.cli("get", name)
        assert done.returncode == 1
        assert "cannot be an agent's name" in done.stderr
    refused = platform.cli("run", "never-made", os.fsdecode(b"\xff"))
    assert refused.returncode == 1
    assert "UTF-8" in refused.stderr
    assert platform.http.get("/agents/never-made").status_code == 404


def test_the_address_is_understood_in_every_form_and_names_are_completed(platform: Platform) -> None:
    platform.assign("complete-me", script({"say": "Done."}))
    bare = platform.url.removeprefix("http://")
    for address in (platform.url, f"{platform.url}/", f"{platform.url}/api/v1", f"{bare}/api/v1/"):
        environment = {**platform.cli_environment, "KOMPUTER_API": address if "127.0.0.1" in bare else platform.url}
        environment |= {"_KOMPUTER_COMPLETE": "complete_bash", "COMP_WORDS": "komputer get comp", "COMP_CWORD": "2"}
        done = subprocess.run(
            [sys.executable, "-m", "komputer.cli"], env=environment, capture_output=True, text=True, check=False
        )
        assert "complete-me" in done.stdout.split(), done.stderr
