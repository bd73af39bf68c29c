"""The real parts against the model: whatever happens, they answer as it does and keep what it promises."""

import asyncio
import random

import pytest
from redis.asyncio import Redis

from komputer.events.log import Log
from tests.fixtures.valkey import LogServer
from tests.model.parts import HAPPENINGS, PROGRESS, Parts

RUNS = 20


@pytest.mark.parametrize("seed", range(10))
def test_the_real_parts_do_as_the_model_says(valkey: LogServer, seed: int) -> None:
    for run in range(RUNS):
        asyncio.run(play(valkey, random.Random(seed * RUNS + run)))


async def play(server: LogServer, rng: random.Random) -> None:
    """Of four steps about three are such that must happen in the end; the others are people's and what goes wrong."""
    prefix, trace = server.prefix(), list[str]()
    log, redis = Log.connect(server.url, prefix=prefix), Redis.from_url(server.url, protocol=2)
    try:
        parts = Parts(log, redis, prefix, by_api=rng.random() < 0.5)
        for _ in range(rng.randint(10, 120)):
            if rng.random() < 0.7:
                trace.append(await parts.progress(rng.randrange(len(PROGRESS))))
            else:
                step = rng.choice(HAPPENINGS)
                trace.append(step.__name__)
                await step(parts)
            parts.check()
        trace += await parts.come_to_rest()
        while parts.late or parts.ghost:
            await parts.a_late_post_arrives()
            await parts.the_old_pod_speaks()
            parts.check()
        trace += await parts.come_to_rest()
        parts.check_at_rest()
    except AssertionError as wrong:
        raise AssertionError("\n".join([*trace, str(wrong)])) from wrong
    finally:
        await log.close()
        await redis.aclose()
