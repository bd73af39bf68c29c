"""The client repeats two sets of words of the platform, because it works without the platform's packages."""

from komputer.client import client
from komputer.domain import tasks


def test_the_client_knows_the_same_ends_and_states_as_the_platform() -> None:
    assert client.END_TYPES == tasks.END_TYPES
    assert client.ACTIVE_STATUSES == tasks.ACTIVE_STATUSES
