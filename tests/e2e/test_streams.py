"""Following real agents on a real platform, while parts of it are killed."""

import asyncio
import json
import subprocess
import sys
import threading

import aiohttp

from komputer.client import Client
from tests.e2e.platform import END_TYPES, Json, Platform, check_log, script, until

WORK = (
    {"say": "Before."},
    {"tool": "Bash", "input": {"command": "sleep 1; echo one"}},
    {"tool": "Bash", "input": {"command": "sleep 1; echo two"}},
    {"tool": "Bash", "input": {"command": "sleep 1; echo three"}},
    {"say": "After."},
)


def test_who_follows_misses_nothing_when_api_and_log_are_killed(own_platform: Platform) -> None:
    platform, got = own_platform, list[Json]()
    platform.assign("watched", script(*WORK))

    def follow() -> None:
        with Client(platform.url, token=platform.token) as client:
            for event in client.follow("watched", "0-0"):
                got.append(event)
                if event["type"] in END_TYPES:
                    return

    following = threading.Thread(target=follow)
    following.start()
    until(lambda: any(event["type"] == "tool_call" for event in got), "a tool call")
    platform.kill_part("api")
    until(lambda: sum(event["type"] == "tool_result" for event in got) >= 1, "a result after the API's end")
    platform.kill_part("valkey")
    following.join(90)
    assert not following.is_alive()
    assert got[-1]["type"] == "task_completed"
    until(lambda: got == platform.events("watched"), "the log is there again")
    check_log(got)


async def test_a_quiet_stream_shows_that_it_lives(platform: Platform) -> None:
    platform.assign("quiet", script({"say": "Hello."}))
    platform.end("quiet")
    path = f"{platform.url}/api/v1/agents/quiet"
    async with (
        aiohttp.ClientSession(headers=dict(platform.http.headers)) as http,
        http.ws_connect(f"{path}/ws", autoping=False) as ws,
        http.get(f"{path}/events/stream", timeout=aiohttp.ClientTimeout(total=None)) as sse,
    ):
        async with asyncio.timeout(40):
            while await sse.content.readline() != b":\n":
                pass
        assert (await ws.receive(30)).type is aiohttp.WSMsgType.PING


def test_the_cli_follows_until_it_is_stopped(platform: Platform) -> None:
    platform.assign("shown", script({"say": "Hello."}))
    platform.end("shown")
    command = [sys.executable, "-m", "komputer.cli", "events", "shown", "-f", "--json", "--api", platform.url]
    cli = subprocess.Popen(
        [*command, "--limit", "1", "--types", "text,task_completed"],
        env=platform.cli_environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert cli.stdout
    try:
        assert json.loads(cli.stdout.readline())["type"] == "task_completed"
        platform.assign("shown", script({"say": "Again."}))
        assert [json.loads(cli.stdout.readline())["type"] for _ in range(2)] == ["text", "task_completed"]
    finally:
        cli.terminate()
        cli.wait(20)
        cli.stdout.close()
