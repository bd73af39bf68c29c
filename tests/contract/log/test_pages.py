"""Reading: pages, cursors, filters, what is gone."""

from datetime import UTC, datetime, timedelta

import orjson
import pytest

from komputer.domain.errors import Invalid
from komputer.domain.event_ids import micros_of, timestamp_of
from komputer.events import schema
from komputer.events.log import Log, LogKey
from tests.contract.log.events import KEY, Producer, completed, everything, ids, producer, read, said, started, texts
from tests.fixtures.valkey import LogServer


async def filled(log: Log, count: int, key: LogKey = KEY) -> list[str]:
    """The ids of `count` texts."""
    runtime = await producer(log, key)
    assert set(await runtime.post(*(said("t1", str(i)) for i in range(count)))) == {"ok"}
    return [event["id"] for event in await everything(log, key)]


def shifted(event_id: str, hours: int) -> str:
    """The event's time, written with another offset."""
    moment = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=micros_of(event_id), hours=hours)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f") + f"{hours:+03d}:00"


async def test_an_event_reads_as_the_contract_says(log: Log) -> None:
    runtime = await producer(log)
    await runtime.post(
        schema.ToolCall(
            task_id="t1", id="c1", tool="Bash", input={"command": 'echo "é😀\n"', "n": 2**70, "x": float("inf")}
        )
    )
    (event,) = await everything(log)
    assert list(event) == ["id", "agentName", "namespace", "type", "timestamp", "payload"]
    assert (event["agentName"], event["namespace"], event["type"]) == ("ada", "team", "tool_call")
    assert event["timestamp"] == timestamp_of(event["id"])
    assert event["payload"]["input"] == {"command": 'echo "é😀\n"', "n": str(2**70), "x": None}


async def test_an_entry_and_a_page_write_the_same_json(log: Log) -> None:
    runtime = await producer(log)
    await runtime.post(started("t1"), completed("t1"))
    (end,) = await log.ends_after(KEY, None)
    page = await log.page("team", "ada", limit=1)
    assert orjson.loads(end.to_json("team", "ada")) == read(page)[0]


async def test_without_a_cursor_a_page_is_the_newest_events_oldest_first(log: Log) -> None:
    all_ids = await filled(log, 12)
    page = await log.page("team", "ada", limit=5)
    assert (texts(page), page.gap, page.last_id) == (["7", "8", "9", "10", "11"], False, all_ids[-1])
    assert (await log.page("team", "nobody", limit=5)).entries == []


async def test_after_goes_on_without_a_hole_to_the_end(log: Log) -> None:
    all_ids = await filled(log, 12)
    found: list[str] = []
    position: str | None = all_ids[0]
    while position:
        page = await log.page("team", "ada", limit=5, after=position)
        assert not page.gap
        found += ids(page)
        position = page.last_id
    assert found == all_ids[1:]


async def test_before_is_the_last_events_before_the_cursor(log: Log) -> None:
    all_ids = await filled(log, 12)
    page = await log.page("team", "ada", limit=3, before=all_ids[7])
    assert (texts(page), page.gap) == (["4", "5", "6"], False)
    assert texts(await log.page("team", "ada", limit=3, before=all_ids[0])) == []
    assert texts(await log.page("team", "ada", limit=9, after=all_ids[3], before=all_ids[6])) == ["4", "5"]


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(1, ["6"]), (2, ["5", "6"]), (5, ["4", "5", "6", "7", "8"]), (40, [str(i) for i in range(12)])],
)
async def test_around_is_half_before_and_half_from_the_cursor_on(log: Log, limit: int, expected: list[str]) -> None:
    all_ids = await filled(log, 12)
    page = await log.page("team", "ada", limit=limit, around=all_ids[6])
    assert (texts(page), page.gap) == (expected, False)
    assert texts(await log.page("team", "ada", limit=limit, around=timestamp_of(all_ids[6]))) == expected


async def test_a_time_of_any_offset_and_precision_is_a_cursor(log: Log) -> None:
    all_ids = await filled(log, 6)
    exact = timestamp_of(all_ids[2])
    for same in (exact, shifted(all_ids[2], 2), shifted(all_ids[2], -7), exact.lower(), exact.replace("Z", "000Z")):
        assert texts(await log.page("team", "ada", limit=9, after=same)) == ["3", "4", "5"], same
        assert texts(await log.page("team", "ada", limit=9, before=same)) == ["0", "1"], same
    between = exact.replace("Z", "5Z")  # half a microsecond later
    assert texts(await log.page("team", "ada", limit=9, after=between)) == ["3", "4", "5"]
    assert texts(await log.page("team", "ada", limit=9, before=between)) == ["0", "1", "2"]
    for past in ("1969-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59", "1970-01-01T00:00:00Z", "0-0"):
        assert len((await log.page("team", "ada", limit=9, after=past)).entries) == 6
        assert (await log.page("team", "ada", limit=9, before=past)).entries == []
        assert len((await log.page("team", "ada", limit=8, around=past)).entries) == 4
    for future in ("9999-12-31T23:59:59.9999999-23:59", "2099-12-31T23:59:60Z"):
        assert (await log.page("team", "ada", limit=9, after=future)).entries == []
        assert len((await log.page("team", "ada", limit=9, before=future)).entries) == 6


@pytest.mark.parametrize(
    "nonsense",
    [
        *("", "x", "5", "1-", "-1", "1-1-1", "1-1000", "٣-٣", "9" * 40 + "-1", "$", "+", "(1-1", "1-1\n", "yesterday"),
        *("2026-01-01", "2026-01-01T00:00:00", "2026-02-30T00:00:00Z", "2026-01-01T00:00:00+25:00"),
        "2026-01-01T00:00:61Z",
    ],
)
async def test_a_cursor_that_is_neither_is_refused(log: Log, nonsense: str) -> None:
    for place in ("after", "before", "around"):
        with pytest.raises(Invalid) as refused:
            await log.page("team", "ada", limit=5, **{place: nonsense})
        assert refused.value.code == "invalid_cursor"


async def test_around_stands_alone(log: Log) -> None:
    with pytest.raises(Invalid):
        await log.page("team", "ada", limit=5, around="1-1", after="1-1")


async def test_a_filter_reads_on_until_the_limit_is_full_or_the_log_ends(log: Log) -> None:
    runtime = await producer(log)
    for i in range(5):
        await runtime.post(started(f"t{i}"), *(said(f"t{i}", str(j)) for j in range(250)), completed(f"t{i}"))
    starts = await log.page("team", "ada", limit=3, types={"task_started"})
    assert [event["payload"]["task_id"] for event in read(starts)] == ["t2", "t3", "t4"]
    first = ids(await log.page("team", "ada", limit=1, after="1970-01-01T00:00:00Z"))[0]
    later = await log.page("team", "ada", limit=2, after=first, types=["task_started", "task_completed"])
    assert [(e["type"], e["payload"]["task_id"]) for e in read(later)] == [
        ("task_completed", "t0"),
        ("task_started", "t1"),
    ]
    assert len((await log.page("team", "ada", limit=50, types=["task_completed"])).entries) == 5
    assert (await log.page("team", "ada", limit=50, types=["error"])).entries == []
    assert (await log.page("team", "ada", limit=50, types=[])).entries == []


async def test_retention_keeps_exactly_the_newest(short_log: Log) -> None:
    runtime = await producer(short_log)
    for i in range(25):
        await runtime.post(said("t1", str(i)))
        assert len(await everything(short_log)) == min(i + 1, 10)
    await runtime.post(*(said("t1", str(i)) for i in range(25, 40)))
    assert texts(await short_log.page("team", "ada", limit=200)) == [str(i) for i in range(30, 40)]


async def test_a_cursor_older_than_retention_is_answered_with_a_gap_and_what_is_left(short_log: Log) -> None:
    runtime = await producer(short_log)
    seen: list[str] = []
    for i in range(25):
        await runtime.post(said("t1", str(i)))
        seen.append((await everything(short_log))[-1]["id"])
    left = [str(i) for i in range(15, 25)]
    last_gone, first_left = seen[14], seen[15]
    for old in (seen[0], seen[13], timestamp_of(seen[13]), "2020-01-01T00:00:00Z"):
        page = await short_log.page("team", "ada", limit=50, after=old)
        assert (page.gap, texts(page)) == (True, left), old
    for kept in (last_gone, timestamp_of(last_gone)):
        page = await short_log.page("team", "ada", limit=50, after=kept)
        assert (page.gap, texts(page)) == (False, left), "nothing lies between the last that is gone and the first left"
    assert not (await short_log.page("team", "ada", limit=50, after=first_left)).gap
    for place in ({"before": last_gone}, {"around": last_gone}, {"before": seen[3]}):
        assert (await short_log.page("team", "ada", limit=4, **place)).gap, place
    for place in ({"before": first_left}, {"around": first_left}, {"before": seen[-1]}, {}):
        assert not (await short_log.page("team", "ada", limit=4, **place)).gap, place


async def test_a_lower_retention_takes_effect_with_the_next_event(log: Log) -> None:
    all_ids = await filled(log, 450)
    lower = Log.connect(log.server.address, prefix=log._prefix, retention=7)
    runtime = await producer(lower)
    await runtime.post(said("t1", "new"))
    assert texts(await log.page("team", "ada", limit=99)) == ["444", "445", "446", "447", "448", "449", "new"]
    assert (await log.page("team", "ada", limit=99, after=all_ids[442])).gap
    assert not (await log.page("team", "ada", limit=99, after=all_ids[443])).gap
    await lower.close()


async def test_retention_never_removes_an_end_that_is_not_accounted(short_log: Log) -> None:
    runtime = await producer(short_log)
    await runtime.post(started("t1"), completed("t1"), *(said("t2", str(i)) for i in range(50)))
    assert [end.payload["task_id"] for end in await short_log.ends_after(KEY, None)] == ["t1"]


async def test_a_cursor_from_before_the_log_lost_its_data_gets_a_gap(log: Log, server: LogServer) -> None:
    all_ids = await filled(log, 5)
    for key in await log.server.redis.keys(f"{log._prefix}*"):
        await log.server.redis.delete(key)
    lost = await log.page("team", "ada", limit=9, after=all_ids[-1])
    assert (lost.gap, lost.entries) == (True, [])
    assert not (await log.page("team", "ada", limit=9, after="2020-01-01T00:00:00Z")).gap
    runtime = Producer(log, floor=all_ids[2])
    await runtime.hello()
    await runtime.post(said("t1", "new"))
    for cursor in (all_ids[0], all_ids[2], all_ids[4], timestamp_of(all_ids[4])):
        page = await log.page("team", "ada", limit=9, after=cursor)
        assert (page.gap, texts(page)) == (True, ["new"]), cursor
    assert ids(page)[0] > all_ids[-1]


async def test_a_time_before_a_new_agents_first_event_is_no_gap(log: Log) -> None:
    await filled(log, 3)
    page = await log.page("team", "ada", limit=9, after="2020-01-01T00:00:00Z")
    assert (page.gap, len(page.entries)) == (False, 3)


async def test_a_log_that_lost_its_tail_says_so(log: Log) -> None:
    all_ids = await filled(log, 3)
    accounted = f"{int(all_ids[-1].partition('-')[0]) + 1000}-5"  # the status saw an end that the log lost
    runtime = Producer(log, floor=accounted)
    await runtime.hello()
    await runtime.post(said("t1", "new"))
    page = await log.page("team", "ada", limit=9, after=all_ids[-1])
    assert (page.gap, texts(page)) == (True, ["new"])
    assert not (await log.page("team", "ada", limit=9, after=accounted)).gap
