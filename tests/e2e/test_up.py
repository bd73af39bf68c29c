"""`komputer up` and the command line, as a person meets them."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.laptop import Laptop
from tests.e2e.platform import script, until


def kubectl(laptop: Laptop, *arguments: str, manifest: object = None) -> str:
    program = shutil.which("kubectl")
    if program is None:
        pytest.skip("kubectl is not installed")
    done = subprocess.run(
        [program, "--kubeconfig", str(laptop.data_dir / "kubeconfig"), *arguments],
        input=json.dumps(manifest) if manifest is not None else None,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_says_what_it_starts_and_exactly_one_ready_line(laptop: Laptop) -> None:
    assert len([line for line in laptop.output if line.startswith("ready: http://127.0.0.1:")]) == 1
    assert any("offline model answers" in line for line in laptop.output)
    assert any(str(laptop.data_dir / "kubeconfig") in line for line in laptop.output)
    assert laptop.http.get(f"{laptop.url}/readyz").status_code == 200
    assert laptop.http.get(f"{laptop.url}/healthz").json() == {"status": "ok"}


def test_the_line_to_try_works_when_pasted(laptop: Laptop) -> None:
    line = next(line for line in laptop.output if line.startswith("try it: "))
    done = subprocess.run(["bash", "-c", line.removeprefix("try it: ")], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["name"] == "ada"
    assert laptop.end("ada")["type"] == "task_completed"


def test_everything_it_keeps_is_private(laptop: Laptop) -> None:
    for path in [laptop.data_dir, *laptop.data_dir.rglob("*")]:
        if path.is_symlink() or "volumes" in path.parts or "pods" in path.parts:
            continue
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_second_platform_on_the_same_directory_or_port_is_refused(laptop: Laptop, tmp_path: Path) -> None:
    port = laptop.url.rsplit(":", 1)[1]
    for arguments, said in (
        (["--port", "0", "--data-dir", str(laptop.data_dir)], "already runs"),
        (["--port", port, "--data-dir", str(tmp_path / "other")], "cannot listen"),
        (["--host", "0.0.0.0", "--port", "0", "--data-dir", str(tmp_path / "other")], "loopback"),
    ):
        done = laptop.cli("up", *arguments)
        assert done.returncode == 1
        assert said in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


def test_kubectl_apply_runs_an_agent_once_and_an_edit_runs_it_again(laptop: Laptop) -> None:
    manifest = {
        "apiVersion": "komputer.komputer.ai/v1alpha1",
        "kind": "KomputerAgent",
        "metadata": {"name": "applied", "namespace": "default"},
        "spec": {"instructions": script({"say": "Applied."})},
    }
    kubectl(laptop, "apply", "-f", "-", manifest=manifest)
    assert laptop.end("applied")["payload"]["result"] == "Applied."
    laptop.settled("applied", taskStatus="Complete")
    kubectl(laptop, "apply", "-f", "-", manifest=manifest)
    manifest["spec"] = {"instructions": script({"say": "Edited."})}
    kubectl(laptop, "apply", "-f", "-", manifest=manifest)
    assert laptop.end("applied", 2)["payload"]["result"] == "Edited."
    assert laptop.post("applied", script({"say": "Asked."})).status_code == 200
    assert laptop.end("applied", 3)["payload"]["result"] == "Asked."
    kubectl(laptop, "apply", "-f", "-", manifest=manifest)
    laptop.settled("applied", taskStatus="Complete")
    starts = [e for e in laptop.events("applied") if e["type"] == "task_started"]
    assert len(starts) == 3
    columns = kubectl(laptop, "get", "komputeragents", "applied")
    assert columns.split("\n")[0].split()[:5] == ["NAME", "PHASE", "TASK", "MODEL", "COST"]
    assert "Running" in columns
    logs = kubectl(laptop, "logs", "applied-pod")
    assert logs is not None
    kubectl(laptop, "delete", "komputeragent", "applied")
    until(lambda: laptop.http.get("/agents/applied").status_code == 404, "it is gone")


def test_a_web_page_that_rebinds_its_name_is_not_answered(laptop: Laptop) -> None:
    assert laptop.http.get("/agents", headers={"Host": "evil.example"}).status_code == 403


def test_run_follows_a_task_to_its_end(laptop: Laptop) -> None:
    steps = script({"tool": "Bash", "input": {"command": "echo hi"}}, {"say": "All done."})
    done = laptop.cli("run", "typed", steps)
    assert done.returncode == 0, done.stderr
    assert "All done." in done.stdout
    assert "completed in" in done.stdout
    assert "$" in done.stdout
    failed = laptop.cli("run", "typed", script({"fail": 403, "times": 9}), "--json")
    assert failed.returncode == 1
    assert json.loads(failed.stdout.strip().splitlines()[-1])["type"] == "error"


def test_ctrl_c_cancels_the_task(laptop: Laptop) -> None:
    following = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "komputer.cli",
            "run",
            "broken-off",
            script({"tool": "Bash", "input": {"command": "tail -f /dev/null"}}),
        ],
        env={**os.environ, "KOMPUTER_API": laptop.url},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # A shell that runs the tests in the background has SIGINT ignored, which children inherit.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    until(lambda: laptop.http.get("/agents/broken-off").status_code == 200, "it is made")
    laptop.event("broken-off", "tool_call")
    following.send_signal(signal.SIGINT)
    output, _ = following.communicate(timeout=30)
    assert following.returncode == 130, output
    assert laptop.end("broken-off")["type"] == "task_cancelled"


def test_the_other_commands_and_their_errors(laptop: Laptop) -> None:
    assert laptop.cli("run", "listed", script({"say": "Here."})).returncode == 0
    assert "listed" in laptop.cli("list").stdout
    assert any(a["name"] == "listed" for a in json.loads(laptop.cli("list", "--json").stdout)["agents"])
    assert json.loads(laptop.cli("get", "listed", "--json").stdout)["name"] == "listed"
    assert "Here." in laptop.cli("events", "listed").stdout
    idle = laptop.cli("cancel", "listed")
    assert (idle.returncode, idle.stderr.count("\n")) == (1, 1)
    assert laptop.cli("delete", "listed").returncode == 0
    missing = laptop.cli("get", "listed", "--json")
    assert missing.returncode == 1
    assert json.loads(missing.stderr)["code"] == "agent-not-found"
    nobody = laptop.cli("list", "--api", "http://127.0.0.1:9")
    assert "komputer up" in nobody.stderr
    assert laptop.cli("nonsense").returncode == 2


def test_without_a_sandbox_it_runs_and_says_so(new_laptop: Callable[..., Laptop]) -> None:
    laptop = new_laptop("--sandbox", "none")
    assert any("no sandbox" in line for line in laptop.output)
    laptop.assign(
        "free",
        script({"tool": "Bash", "input": {"command": "pwd; (setsid sleep 300 &) ; echo $HOME"}}, {"say": "Ran."}),
    )
    assert laptop.end("free")["payload"]["result"] == "Ran."
    laptop.http.delete("/agents/free")
    until(lambda: not laptop.agent_processes("sleep 300"), "what it left behind is gone")
    laptop.assign("next", script({"say": "Fine."}))
    assert laptop.end("next")["payload"]["result"] == "Fine."
