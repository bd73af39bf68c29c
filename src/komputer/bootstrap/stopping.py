"""The signals that stop a program."""

import asyncio
import signal


def stop_signals() -> tuple[signal.Signals, ...]:
    """Return SIGTERM and SIGINT; only SIGTERM if this process ignores SIGINT.

    A Ctrl-C reaches every process of the terminal. `komputer up` starts its programs with SIGINT ignored and stops them
    itself, in order. A program that reacted to the Ctrl-C would end while others still depend on it.
    """
    return tuple(each for each in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(each) is not signal.SIG_IGN)


def stop_event() -> asyncio.Event:
    """Return an event that is set by the first of `stop_signals`."""
    stop = asyncio.Event()
    for each in stop_signals():
        asyncio.get_running_loop().add_signal_handler(each, stop.set)
    return stop
