"""How delays grow."""

from datetime import timedelta

from komputer.backoff import Backoff


def test_delays_double_up_to_the_limit() -> None:
    backoff = Backoff(0.1, 10.0)
    assert [backoff.delay_s(failures) for failures in (1, 2, 3, 100, 10**6)] == [0.1, 0.2, 0.4, 10.0, 10.0]
    assert backoff.delay(3) == timedelta(seconds=0.4)


def test_without_a_failure_there_is_no_delay() -> None:
    assert [Backoff(1.0, 2.0, jitter=0.5).delay_s(failures) for failures in (0, -1)] == [0.0, 0.0]


def test_jitter_shortens_a_delay_and_never_lengthens_it() -> None:
    delays = {Backoff(1.0, 8.0, jitter=0.5).delay_s(9) for _ in range(200)}
    assert all(4.0 <= delay <= 8.0 for delay in delays)
    assert len(delays) > 1
