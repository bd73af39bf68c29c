"""Which signals stop a program."""

import signal
import subprocess
import sys

from komputer.bootstrap.stopping import stop_signals

SERVE = """
import signal, socket, sys
import asyncio
from komputer.bootstrap.server import Endpoint, serve
from komputer.bootstrap.stopping import stop_event

signal.signal(signal.SIGINT, signal.SIG_IGN if sys.argv[1] == "ignored" else signal.default_int_handler)

async def app(scope, receive, send):
    while (await receive())["type"] == "lifespan.startup":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})

async def loop():
    stop = stop_event()
    print("ready", flush=True)
    await stop.wait()

async def server():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        await serve(app, Endpoint(listening, lambda: print("ready", flush=True)))

asyncio.run({"loop": loop, "server": server}[sys.argv[2]]())
"""


def ended_by(number: signal.Signals, *arguments: str) -> bool:
    """Whether the program ends, with 0, within a second after the signal; afterwards it is ended by SIGTERM."""
    with subprocess.Popen([sys.executable, "-c", SERVE, *arguments], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        program.send_signal(number)
        try:
            return program.wait(timeout=30 if arguments[0] == "handled" else 1) == 0
        except subprocess.TimeoutExpired:
            program.terminate()
            assert program.wait(timeout=30) == 0
            return False


def test_ctrl_c_stops_a_program_that_does_not_ignore_it() -> None:
    assert ended_by(signal.SIGINT, "handled", "server")
    assert ended_by(signal.SIGINT, "handled", "loop")


def test_a_part_of_the_laptop_ignores_the_ctrl_c_that_its_parent_acts_on() -> None:
    assert not ended_by(signal.SIGINT, "ignored", "server")
    assert not ended_by(signal.SIGINT, "ignored", "loop")


def test_sigterm_always_stops() -> None:
    assert signal.SIGTERM in stop_signals()
