"""Whether a gateway is alive, as the log's server has it."""

import pytest

from komputer.events.log import Log
from komputer.redis import presence


async def test_a_presence_begins_with_the_first_beat_and_goes_on_with_the_next(log: Log) -> None:
    gateways = log.gateways()
    assert (await gateways.read()).since_us is None
    await gateways.beat()
    first = await gateways.read()
    assert first.since_us is not None
    assert 0 <= first.now_us - first.since_us < 60_000_000
    await log.gateways().beat()
    assert (await gateways.read()).since_us == first.since_us


@pytest.mark.parametrize("value", [b"", b"soon", b"-1", b"1.5", b"9" * 30])
async def test_a_presence_with_an_invalid_or_future_value_begins_again(log: Log, value: bytes) -> None:
    gateways = log.gateways()
    await log.server.redis.set(gateways._key, value, ex=int(presence.ALIVE_FOR.total_seconds()))
    await gateways.beat()
    found = await gateways.read()
    assert found.since_us is not None
    assert 0 <= found.now_us - found.since_us < 60_000_000
