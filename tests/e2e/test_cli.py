"""The command line, as a person meets it."""

import json
import signal
import subprocess
import sys

from tests.e2e.platform import Platform, script, until


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
    assert json.loads(missing.stderr)["code"] == "agent-not-found"
    nobody = platform.cli("list", "--api", "http://127.0.0.1:9")
    assert "komputer up" in nobody.stderr
    assert platform.cli("nonsense").returncode == 2
