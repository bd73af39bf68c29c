"""`komputer up` and the command line, as a user runs them."""

import json
import os
import stat
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.e2e.laptop import Laptop
from tests.e2e.platform import script, until


def test_it_prints_what_it_starts_and_exactly_one_ready_line(laptop: Laptop) -> None:
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
    for parent, folders, files in os.walk(laptop.data_dir):
        folders[:] = [name for name in folders if name not in ("volumes", "pods")]
        for path in (Path(parent), *(Path(parent, name) for name in files)):
            with suppress(FileNotFoundError):  # a journal of SQLite's
                mode = path.lstat().st_mode
                assert stat.S_ISLNK(mode) or stat.S_IMODE(mode) & 0o077 == 0, path


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


def test_a_web_page_that_rebinds_its_name_is_not_answered(laptop: Laptop) -> None:
    assert laptop.http.get("/agents", headers={"Host": "evil.example"}).status_code == 403


def test_without_a_sandbox_it_runs_and_prints_a_note(new_laptop: Callable[..., Laptop]) -> None:
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
