"""The offline model with the real Claude CLI, driven by the Claude Agent SDK alone: the basis of the end-to-end
tests."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from claude_agent_sdk import (
    AssistantMessage,
    ClaudeAgentOptions,
    ClaudeSDKClient,
    Message,
    ProcessError,
    ResultMessage,
    SystemMessage,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
    UserMessage,
)

DEADLINE_SECONDS = 60

GO_ON = "The task was interrupted. Go on where you were."

FOREVER = {"tool": "Bash", "input": {"command": "echo once >> log; tail -f /dev/null", "description": "Never ends"}}


def bash(command: str) -> dict[str, Any]:
    return {"tool": "Bash", "input": {"command": command, "description": "A step"}}


@pytest.fixture(scope="module")
def model_address() -> Iterator[str]:
    """The offline model in its own process, at the address that it prints."""
    with subprocess.Popen(
        [sys.executable, "-m", "komputer.offline", "--port", "0"], stdout=subprocess.PIPE, text=True
    ) as model:
        assert model.stdout
        try:
            yield model.stdout.readline().strip()
        finally:
            model.terminate()
            assert model.wait(DEADLINE_SECONDS) == 0


@dataclass
class Transcript:
    """The output of one run of the CLI as words in order, and how it ended."""

    words: list[str] = field(default_factory=list)
    result: ResultMessage | None = None

    def add(self, message: Message) -> None:
        match message:
            case AssistantMessage() | UserMessage() if isinstance(message.content, list):
                self.words += [word for block in message.content if (word := shown(block))]
            case SystemMessage(subtype="api_retry"):
                self.words.append(f"retry {message.data['error_status']}")
            case ResultMessage():
                self.result = message


def shown(block: object) -> str:
    match block:
        case TextBlock(text=text):
            return text
        case ThinkingBlock(thinking=text):
            return f"thinking: {text}"
        case ToolUseBlock(name=name):
            return f"calls {name}"
        case ToolResultBlock(content=content):
            return f"result: {str(content).splitlines()[0]}"
        case _:
            return ""


@dataclass(frozen=True)
class Agent:
    """One conversation in its own folder; each task runs in a new CLI process."""

    home: Path
    model_address: str
    session_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    async def run(
        self, prompt: str, *, then: Callable[[ClaudeSDKClient], Awaitable[object]] | None = None, at: str = ""
    ) -> Transcript:
        """Give one task and follow it until it or the process ends. `then` is called once `at` has appeared."""
        transcript = Transcript()
        async with asyncio.timeout(DEADLINE_SECONDS), self._client() as client:
            await client.query(prompt)
            async for message in client.receive_messages():
                transcript.add(message)
                if then and at in transcript.words:
                    await then(client)
                    then = None
                if transcript.result:
                    break
        return transcript

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[ClaudeSDKClient]:
        is_known = any(self.home.glob(f".claude/projects/*/{self.session_id}.jsonl"))
        client = ClaudeSDKClient(
            ClaudeAgentOptions(
                cwd=self.home,
                session_id=None if is_known else self.session_id,
                resume=self.session_id if is_known else None,
                model="claude-sonnet-4-6",
                permission_mode="bypassPermissions",
                setting_sources=[],
                strict_mcp_config=True,
                tools=["Bash", "Read", "Write", "Edit", "Agent"],
                stderr=lambda line: None,
                env={
                    "ANTHROPIC_BASE_URL": self.model_address,
                    "ANTHROPIC_API_KEY": "offline",
                    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
                    "CLAUDE_CODE_MAX_RETRIES": "3",
                    "HOME": str(self.home),
                    "TMPDIR": str(self.home),
                    "IS_SANDBOX": "1",
                },
            )
        )
        await client.connect()
        try:
            yield client
        finally:
            await client.disconnect()


@pytest.fixture
def agent(tmp_path: Path, model_address: str, monkeypatch: pytest.MonkeyPatch) -> Agent:
    for name in [name for name in os.environ if name.startswith(("ANTHROPIC_", "CLAUDE"))]:
        monkeypatch.delenv(name)
    return Agent(tmp_path, model_address)


def scripted(*steps: object) -> str:
    return "Play this.\n```offline\n" + json.dumps(steps, indent=2) + "\n```"


def ended(transcript: Transcript) -> ResultMessage:
    assert transcript.result
    return transcript.result


async def kill(client: ClaudeSDKClient) -> None:
    os.kill(client._transport._process.pid, signal.SIGKILL)  # type: ignore[union-attr]


async def test_without_a_script_the_task_is_quoted(agent: Agent) -> None:
    transcript = await agent.run("Count the files.")
    assert (
        ended(transcript).result
        == "This is Komputer's offline model: no Claude was asked. The task was: Count the files."
    )


async def test_the_cli_runs_the_tools_of_a_script_and_the_last_text_is_the_result(agent: Agent) -> None:
    steps = [{"think": "Hm."}, {"say": "Looking."}, bash("echo hello > file; cat file"), {"say": "There is one file."}]
    transcript = await agent.run(scripted(*steps))
    assert transcript.words == ["thinking: Hm.", "Looking.", "calls Bash", "result: hello", "There is one file."]
    assert ended(transcript).result == "There is one file."
    assert not ended(transcript).is_error
    assert (agent.home / "file").read_text() == "hello\n"


async def test_usage_gives_the_exact_cost(agent: Agent) -> None:
    usage = {"input_tokens": 1000, "output_tokens": 100, "cache_read_input_tokens": 10_000}
    steps = [{"usage": usage}, bash("true"), {"usage": {"input_tokens": 2000, "output_tokens": 200}}, {"say": "Done."}]
    result = ended(await agent.run(scripted(*steps)))
    # US dollars per million tokens of claude-sonnet-4-6: 3 in, 15 out, 0.30 read from the cache.
    assert result.total_cost_usd == pytest.approx((3000 * 3 + 300 * 15 + 10_000 * 0.3) / 1e6, abs=1e-12)


async def test_the_same_script_costs_the_same_in_another_folder(
    agent: Agent, model_address: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = Agent(tmp_path_factory.mktemp("a-folder-with-a-much-longer-name"), model_address)
    script = scripted({"say": "Where am I?"}, bash("pwd; date +%s%N"), {"say": "Here."})
    first, second = ended(await agent.run(script)), ended(await other.run(script))
    assert first.total_cost_usd == second.total_cost_usd
    assert first.usage == second.usage


async def test_the_next_task_has_its_own_script(agent: Agent) -> None:
    await agent.run(scripted(bash("true"), {"say": "First."}))
    assert (await agent.run(scripted(bash("true"), {"say": "Second."}))).words[-1] == "Second."
    assert "Third?" in (await agent.run("Third?")).words[-1]


async def test_an_overloaded_api_is_retried(agent: Agent) -> None:
    transcript = await agent.run(scripted({"fail": 529, "times": 2}, {"say": "At last."}))
    assert transcript.words == ["retry 529", "retry 529", "At last."]


async def test_a_broken_stream_is_continued(agent: Agent) -> None:
    transcript = await agent.run(scripted({"say": "One."}, {"fail": 529}, {"say": "Two."}))
    assert ended(transcript).result == "Two."
    assert transcript.words.count("One.") == 1


async def test_an_invalid_script_fails_the_task_with_its_fault(agent: Agent) -> None:
    result = ended(await agent.run(scripted({"sya": "x"})))
    assert result.is_error
    assert "Step 1" in str(result.result)
    assert "Next." in str(ended(await agent.run("Next.")).result)


async def test_an_interruption_during_a_stream_ends_the_turn_and_the_script_continues(agent: Agent) -> None:
    script = scripted({"say": "One."}, {"wait": 600, "times": 1}, {"say": "Two."}, bash("echo x"), {"say": "Three."})
    transcript = await agent.run(script, then=lambda client: client.interrupt(), at="One.")
    assert ended(transcript).terminal_reason == "aborted_streaming"
    assert (await agent.run(GO_ON)).words == ["Two.", "calls Bash", "result: x", "Three."]


async def test_an_interrupted_tool_is_not_called_again(agent: Agent) -> None:
    transcript = await agent.run(
        scripted(FOREVER, {"say": "Two."}), then=lambda client: client.interrupt(), at="calls Bash"
    )
    assert ended(transcript).terminal_reason == "aborted_tools"
    assert (await agent.run(GO_ON)).words == ["Two."]


async def test_a_killed_cli_repeats_what_was_lost(agent: Agent) -> None:
    script = scripted(bash("echo x"), {"say": "One."}, {"wait": 600, "times": 1}, {"say": "Two."})

    async def kill_when_recorded(client: ClaudeSDKClient) -> None:
        """The CLI writes its transcript up to a tenth of a second late; what it had not written it has not done."""
        recorded = f".claude/projects/*/{agent.session_id}.jsonl"
        while not any("tool_result" in file.read_text() for file in agent.home.glob(recorded)):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await kill(client)

    with pytest.raises(ProcessError):
        await agent.run(script, then=kill_when_recorded, at="One.")
    transcript = await agent.run(GO_ON)
    assert transcript.words[-2:] == ["One.", "Two."] or transcript.words == ["Two."]
    assert "calls Bash" not in transcript.words
    assert "Again?" in (await agent.run("Again?")).words[-1]


async def test_a_script_continues_after_a_compaction(agent: Agent) -> None:
    script = scripted(bash("echo x"), {"say": "One."}, {"wait": 600, "times": 1}, bash("echo y"), {"say": "Two."})
    await agent.run(script, then=lambda client: client.interrupt(), at="One.")
    await agent.run("/compact")
    assert (await agent.run(GO_ON)).words == ["calls Bash", "result: y", "Two."]


async def test_a_subagent_plays_its_own_script(agent: Agent) -> None:
    task = {
        "description": "A sub-task",
        "prompt": scripted(bash("echo inner > inner"), {"say": "Inner."}),
        "subagent_type": "general-purpose",
        "run_in_background": False,
    }
    transcript = await agent.run(scripted({"tool": "Agent", "input": task}, {"say": "Outer."}))
    assert ended(transcript).result == "Outer."
    assert (agent.home / "inner").read_text() == "inner\n"


async def test_a_message_sent_while_a_tool_runs_may_change_the_script(agent: Agent) -> None:
    script = scripted(bash("while [ ! -e go ]; do sleep 0.1; done; sleep 1; echo x"), {"say": "As planned."})

    async def steer(client: ClaudeSDKClient) -> None:
        await client.query(scripted({"say": "As steered."}))
        (agent.home / "go").touch()

    assert (await agent.run(script, then=steer, at="calls Bash")).words[-1] == "As steered."
