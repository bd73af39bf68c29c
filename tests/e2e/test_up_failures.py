"""`komputer up` when it cannot start, and when its files are damaged, lost or copied."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import httpx
import psutil
import pytest

from tests.e2e.laptop import Laptop
from tests.e2e.platform import script, until
from tests.e2e.test_crashes import WORK, finished

KEY = "sk-ant-not-a-real-key"
pytestmark = pytest.mark.timeout(600)
"""Each of some tests starts four platforms; generous for a busy machine."""


def up(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`komputer up` that is expected to end by itself."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("ANTHROPIC_", "KOMPUTER_"))}
    return subprocess.run(
        [sys.executable, "-m", "komputer.cli", "up", "--port", "0", *arguments],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"ANTHROPIC_API_KEY": f"{KEY}\n"}, "ANTHROPIC_API_KEY contains a line break"),
        ({"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": "example"}, "ANTHROPIC_BASE_URL is not an address"),
    ],
)
def test_a_credential_that_cannot_work_is_refused_with_one_sentence(
    tmp_path: Path, environment: dict[str, str], said: str
) -> None:
    done = up("--data-dir", str(tmp_path / "d"), **environment)
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert KEY not in done.stderr + done.stdout
    assert not (tmp_path / "d").exists()


def test_a_directory_that_is_a_file_is_refused_with_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = up("--data-dir", str(tmp_path / "file"))
    assert done.returncode == 1
    assert done.stderr == (
        f"komputer: cannot use {tmp_path}/file as the data directory: it is a file; choose another with --data-dir\n"
    )


def _with_ctrl_c() -> None:
    """Undo what a shell does to commands in the background: it lets them, and so this suite, ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_at_any_moment_of_the_start_shows_no_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "komputer.cli", "up", "--port", "0", "--offline", "--data-dir", str(tmp_path)]
    for wait_s in (0.15, 0.4, 1.0, 2.0):
        process = subprocess.Popen(
            command,
            env={**os.environ, "ANTHROPIC_API_KEY": KEY},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=_with_ctrl_c,
        )
        time.sleep(wait_s)  # no event to wait for: the moment itself is what is tried
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=180)
        # Before the first line of ours runs the interpreter is still starting: that end is its own.
        if b"site.py" not in said and b"<frozen" not in said:
            assert b"Traceback" not in said, (wait_s, said.decode())
        assert process.returncode in (0, 1, 130, -signal.SIGINT)


def test_the_offline_model_on_a_taken_port_is_refused(laptop: Laptop) -> None:
    done = laptop.cli("offline-model", "--port", laptop.url.rsplit(":", 1)[1])
    assert done.returncode == 1
    assert "choose another with --port" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_an_odd_directory_serves_agents_and_an_unreachable_model_is_reported(
    tmp_path: Path, new_laptop: Callable[..., Laptop]
) -> None:
    odd = tmp_path / "a #b?c%20é\nx:y" / ("long-" * 20)
    laptop = new_laptop(data_dir=odd, environment={"ANTHROPIC_BASE_URL": "http://127.0.0.1:9", "LC_ALL": "C"})
    assert any("ANTHROPIC_BASE_URL is ignored" in line for line in laptop.output)
    laptop.assign("odd", script({"say": "Fine."}))
    assert laptop.end("odd")["payload"]["result"] == "Fine."
    assert laptop.stop() == 0
    laptop.environment = {"ANTHROPIC_BASE_URL": "http://127.0.0.1:9", "ANTHROPIC_API_KEY": KEY}
    laptop.options = ("--sandbox", "none")
    laptop.start()
    assert any("http://127.0.0.1:9 cannot be reached now: Connection refused" in line for line in laptop.output)


def test_removed_files_are_created_again_and_no_second_platform_starts(
    new_laptop: Callable[..., Laptop],
) -> None:
    laptop = new_laptop()
    laptop.assign("firm", script({"say": "Before."}))
    laptop.end("firm")
    for name in ("kubeconfig", "lock", "valkey/valkey.sock"):
        (laptop.data_dir / name).unlink()
    for name in ("logs", "pods"):
        shutil.rmtree(laptop.data_dir / name)
    assert "already runs" in up("--data-dir", str(laptop.data_dir)).stderr
    for part in ("kubernetes", "gateway", "api", "operator", "kubelet"):
        until(partial(_killed, laptop, part), f"{part} is killed")
    until(lambda: _is_ready(laptop), "the platform is ready again", within_s=90)
    assert {"kubeconfig", "lock", "logs", "pods"} <= set(os.listdir(laptop.data_dir))
    until(lambda: laptop.post("firm", script({"say": "After."})).status_code == 200, "it takes a task")
    assert laptop.end("firm", 2)["payload"]["result"] == "After."


def _killed(laptop: Laptop, part: str) -> bool:
    """The log file by which a part is found was removed, and is made anew when it next has something to say."""
    assert laptop.process is not None
    log = str(laptop.data_dir / "logs" / f"{part}.log")
    for child in psutil.Process(laptop.process.pid).children():
        with suppress(FileNotFoundError, ProcessLookupError):  # it exited during the scan
            for file in Path(f"/proc/{child.pid}/fd").iterdir():
                if os.path.realpath(file).removesuffix(" (deleted)") == log:
                    child.kill()
                    return True
    return False


def _is_ready(laptop: Laptop) -> bool:
    try:
        return laptop.http.get(f"{laptop.url}/readyz").status_code == 200
    except httpx.TransportError:
        return False


def test_agents_have_their_etc_and_no_second_process_after_the_kubelet_was_killed(
    new_laptop: Callable[..., Laptop],
) -> None:
    laptop = new_laptop()
    for name in ("old", "new"):
        laptop.assign(name, script({"say": "Before."}))
    laptop.end("old")
    runtimes = laptop.agent_processes("komputer.runtime", "old")
    laptop.kill_part("kubelet")
    until(lambda: not any(process.is_running() for process in runtimes), "the kubelet's sandboxes end with it")
    laptop.end("new")
    for name in ("old", "new"):
        look = script(
            {"tool": "Bash", "input": {"command": "whoami; env | grep KOMPUTER_POD | wc -l"}}, {"say": "After."}
        )
        until(partial(_accepted, laptop, name, look), f"{name} takes a task")
        laptop.end(name, 2)
        (result,) = [e for e in laptop.events(name) if e["type"] == "tool_result"]
        assert result["payload"]["output"].split() == ["agent", "0"], result


def _accepted(laptop: Laptop, name: str, instructions: str) -> bool:
    return laptop.post(name, instructions).status_code == 200


def test_a_copy_beside_the_original_and_a_taken_port_of_the_gateway_cost_no_task(
    tmp_path: Path, new_laptop: Callable[..., Laptop]
) -> None:
    original = new_laptop()
    original.assign("twin", script(*WORK))
    original.event("twin", "tool_call")
    shutil.copytree(original.data_dir, tmp_path / "copy", symlinks=True, ignore=shutil.ignore_patterns("*.sock"))
    copy = new_laptop(data_dir=tmp_path / "copy")
    assert any("copy of another data directory" in line for line in copy.output)
    assert copy.address("gateway") != original.address("gateway")
    for platform in (original, copy):
        assert finished(platform, "twin")[-1]["payload"]["result"] == "After."
    token = original.kubeconfig_token()
    assert token != copy.kubeconfig_token()
    # The next start finds the port of the gateway taken: agents are told the new one.
    assert original.stop() == 0
    former = original.address("gateway")
    settings = json.loads((original.data_dir / "komputer.json").read_text())
    settings["ports"]["gateway"] = int(copy.address("gateway").rsplit(":", 1)[1])
    (original.data_dir / "komputer.json").write_text(json.dumps(settings))
    original.start()
    assert original.address("gateway") not in (former, copy.address("gateway"))
    assert original.post("twin", script({"say": "Third."})).status_code == 200
    assert original.end("twin", 2)["payload"]["result"] == "Third."
    assert [event["type"] for event in copy.events("twin")].count("task_completed") == 1


def test_damage_ends_the_start_with_advice_and_a_repair_makes_it_start_again(
    new_laptop: Callable[..., Laptop],
) -> None:
    laptop = new_laptop()
    laptop.assign("eve", script({"say": "Before."}))
    laptop.end("eve")
    assert laptop.stop() == 0
    (log,) = (laptop.data_dir / "valkey" / "appendonlydir").glob("*.incr.aof")
    # An end that a power cut leaves is cut off.
    log.write_bytes(log.read_bytes() + bytes(3000))
    laptop.start()
    assert any("cut off the unfinished end of the event log (3000 bytes" in line for line in laptop.output)
    assert laptop.stop() == 0
    # Damage in the middle is not decided for the person.
    whole = log.read_bytes()
    log.write_bytes(whole[:40] + bytes(20) + whole[60:])
    objects = laptop.data_dir / "objects.db"
    sound = objects.read_bytes()
    for broken, said in ((log, "the event log is damaged"), (objects, "the objects (agents, connectors")):
        if broken == objects:
            objects.write_bytes(sound[:5000])
        refused = up("--data-dir", str(laptop.data_dir))
        assert refused.returncode == 1
        assert said in refused.stdout
        assert f"komputer repair --data-dir {laptop.data_dir}" in refused.stdout
        done = laptop.cli("repair", "--data-dir", str(laptop.data_dir))
        assert done.returncode == 0, done.stderr
        assert "lost" in done.stdout or "could be read" in done.stdout
    laptop.start()
    assert laptop.agent("eve")["name"] == "eve", "from the copy of the last start"
    assert laptop.post("eve", script({"say": "After."})).status_code == 200
    until(lambda: [e for e in laptop.events("eve") if e["payload"].get("result") == "After."], "it works again")
