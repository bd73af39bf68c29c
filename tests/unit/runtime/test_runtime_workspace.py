"""What of a workspace is kept for the next start of Claude, and what is repaired."""

import json
import logging
import os
import stat
from pathlib import Path

import pytest

from komputer.domain.errors import Invalid
from komputer.protocol import wire
from komputer.runtime import workspace
from komputer.runtime.claude import transcript
from komputer.runtime.claude.tools import NOTHING, ToolPolicy, both_allow
from komputer.runtime.logs import Dropping
from komputer.runtime.settings import RuntimeSettings
from komputer.runtime.task.plan import permitted
from tests.unit.runtime.test_runtime_ledger import TASK

ENVIRONMENT = {"KOMPUTER_GATEWAY_URL": "http://g", "KOMPUTER_AGENT": "ada"}


@pytest.fixture
def settings(tmp_path: Path) -> RuntimeSettings:
    return RuntimeSettings.from_environment({**ENVIRONMENT, "KOMPUTER_WORKSPACE": str(tmp_path / "workspace")})


def test_nothing_but_transcripts_is_kept(settings: RuntimeSettings, tmp_path: Path) -> None:
    project = settings.claude / "projects" / "-workspace"
    kept = [project / "s1.jsonl", project / "s1" / "tool-results" / "1.txt", project / "s1" / "subagents" / "a.jsonl"]
    lost = [
        settings.claude / "skills" / "x" / "SKILL.md",
        settings.claude / "projects" / "settings.json",
        project / "memory" / "MEMORY.md",
        project / "notes.md",
        project / "s1" / "session-memory" / "summary.md",
        settings.home / ".bashrc",
        tmp_path / "tmp" / "x",
    ]
    written = settings.claude / ".claude.json"
    for file in (*kept, *lost, written):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("x")
    (project / "s2.jsonl").symlink_to("/etc/passwd")
    os.mkfifo(project / "s3.jsonl")
    workspace.rebuild(settings, tmp_path / "tmp")
    assert all(file.read_text() == "x" for file in kept)
    assert not [file for file in (*lost, project / "s2.jsonl", project / "s3.jsonl") if os.path.lexists(file)]
    assert list(settings.home.iterdir()) == []
    assert json.loads(written.read_text()) == workspace.configuration(settings)


def test_rights_that_were_taken_away_are_given_back(settings: RuntimeSettings, tmp_path: Path) -> None:
    transcript = settings.claude / "projects" / "p" / "s1.jsonl"
    transcript.parent.mkdir(parents=True)
    transcript.write_text("x")
    workspace.prepare(settings)
    (settings.home / "deep" / "deeper").mkdir(parents=True)
    for path in (settings.home / "deep" / "deeper", settings.home / "deep", settings.home, settings.state):
        path.chmod(0)
    for path in (transcript, transcript.parent, settings.claude, settings.workspace):
        path.chmod(0o500)
    workspace.rebuild(settings, tmp_path / "tmp")
    folders = (settings.workspace, settings.state, settings.home, settings.claude, transcript.parent)
    assert [stat.S_IMODE(path.stat().st_mode) & 0o700 for path in folders] == [0o700] * 5
    assert stat.S_IMODE(transcript.stat().st_mode) & 0o600 == 0o600
    assert list(settings.home.iterdir()) == []


@pytest.mark.parametrize("kind", ["nothing", "file", "link", "dangling link", "pipe", "folder"])
def test_the_folder_for_temporary_files_is_made_whatever_stands_in_its_place(tmp_path: Path, kind: str) -> None:
    folder, elsewhere = tmp_path / "tmp" / "komputer-1", tmp_path / "elsewhere"
    folder.parent.mkdir()
    elsewhere.mkdir()
    (elsewhere / "kept").touch()
    match kind:
        case "file":
            folder.touch()
        case "link":
            folder.symlink_to(elsewhere)
        case "dangling link":
            folder.symlink_to(tmp_path / "nowhere")
        case "pipe":
            os.mkfifo(folder)
        case "folder":
            (folder / "x").mkdir(parents=True)
            folder.chmod(0)
    folder.parent.chmod(0)
    workspace.make_temporary(folder)
    assert stat.S_ISDIR(folder.lstat().st_mode)
    assert list(folder.iterdir()) == []
    assert (elsewhere / "kept").exists()


def test_a_transcript_that_the_agent_has_locked_is_lost_and_no_error(
    settings: RuntimeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root, who may run the tests, is refused by nobody; so the system's answer is made up."""

    def refused(*_: object, **__: object) -> object:
        raise PermissionError(13, "Permission denied")

    workspace.prepare(settings)
    monkeypatch.setattr(Path, "stat", refused)
    monkeypatch.setattr(Path, "lstat", refused)
    monkeypatch.setattr(Path, "glob", refused)
    assert transcript.path(settings.claude, "s1") is None
    assert not transcript.has_conversation(settings.claude, "s1")
    assert transcript.size_bytes(settings.claude, "s1") == 0
    assert transcript.last_usage(settings.claude, "s1") == {}


@pytest.mark.parametrize("kind", ["file", "link", "pipe", "folder"])
def test_a_private_file_replaces_whatever_stands_in_its_place(tmp_path: Path, kind: str) -> None:
    path, elsewhere = tmp_path / "private", tmp_path / "elsewhere"
    elsewhere.write_text("untouched")
    match kind:
        case "file":
            path.write_text("of before")
        case "link":
            path.symlink_to(elsewhere)
        case "pipe":
            os.mkfifo(path)
        case "folder":
            (path / "x").mkdir(parents=True)
    workspace.write_private(path, "ours")
    assert (workspace.read_small(path), elsewhere.read_text()) == ("ours", "untouched")
    assert stat.S_IMODE(path.lstat().st_mode) == 0o600


def test_a_pipe_and_a_link_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    for name in ("pipe", "link"):
        with pytest.raises(OSError, match=r"regular|symbolic"):
            workspace.read_small(tmp_path / name)


# ---- a forged ledger ----


@pytest.mark.parametrize(
    ("ledgers", "now", "may"),
    [
        (None, None, {"Bash", "Read", "mcp__git__push"}),
        (None, ["Read"], {"Read"}),
        (["Bash", "Read"], ["Read"], {"Read"}),
        (["Read"], None, {"Read"}),
        (["Bash"], ["Read"], set()),
        (["Bash"], ["Bash(git:*)"], {"Bash"}),
        (["mcp__git"], ["mcp__git__push"], {"mcp__git__push"}),
    ],
)
def test_a_resumed_task_gets_no_tool_that_the_agent_may_not_use_now(
    ledgers: list[str] | None, now: list[str] | None, may: set[str]
) -> None:
    rules = both_allow(ledgers, now)
    tools = ToolPolicy.of(wire.TaskSettings(model="m", role="worker", allowed_tools=rules))
    assert {name for name in ("Bash", "Read", "mcp__git__push") if tools.may_call(name)} == may
    assert rules != []
    if ledgers == ["Bash"] and now == ["Bash(git:*)"]:
        assert rules == ["Bash(git:*)"]
    if not may:
        assert rules == [NOTHING]


def test_a_task_that_is_not_the_assigned_one_gets_no_secrets_and_no_role() -> None:
    assignment = wire.Assignment(
        uid="u",
        name="ada",
        namespace="team",
        generation=1,
        task=wire.AssignedTask(id="t2", instructions="x"),
        settings=wire.TaskSettings(model="m", role="worker", disallowed_tools=["Bash"]),
        environment={"SECRET_A": "x"},
    )
    forged = TASK.settings.model_copy(update={"role": "manager"})
    told, task = permitted(assignment, TASK.__class__(**{**vars(TASK), "settings": forged}))
    assert told.environment == {}
    assert (task.settings.role, task.settings.disallowed_tools) == ("worker", ["Bash"])
    mine = assignment.model_copy(update={"task": wire.AssignedTask(id=TASK.id, instructions="x")})
    assert permitted(mine, TASK)[0].environment == {"SECRET_A": "x"}


# ---- logs ----


def test_a_log_that_nobody_reads_holds_nobody() -> None:
    reading, writing = os.pipe()
    handler = Dropping(writing)
    log = logging.Logger("t")
    log.addHandler(handler)
    for n in range(3000):
        log.info("line %s %s", n, "x" * 200)
    os.set_blocking(reading, False)
    read = b""
    while True:
        try:
            read += os.read(reading, 65536)
        except BlockingIOError:
            break
    log.info("after")
    read += os.read(reading, 65536)
    lines = read.decode().splitlines()
    assert lines[0].startswith("line 0 ")
    assert lines[-1] == "after"
    dropped = json.loads(lines[-2])
    assert dropped["event"] == "log lines were dropped"
    assert dropped["lines"] + len(lines) - 2 == 3000
    assert all(line.endswith("x") for line in lines[:-2]), "no line is torn"
    for descriptor in (reading, writing):
        os.close(descriptor)


@pytest.mark.parametrize("value", ["-1", "1.5", "soon", "86401"])
def test_a_wait_for_background_commands_is_a_number_of_seconds(value: str) -> None:
    with pytest.raises(Invalid, match="KOMPUTER_BACKGROUND_SECONDS"):
        RuntimeSettings.from_environment({**ENVIRONMENT, "KOMPUTER_BACKGROUND_SECONDS": value})
