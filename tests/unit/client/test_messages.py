"""What the client makes of Server-Sent Events."""

from komputer.client.client import messages


def test_each_message_has_its_cursor_and_its_json() -> None:
    lines = ["retry: 1000", "id: 1-0", "", "id: 2-0", 'data: {"a": 1}', "", ":", "", 'data: {"b": 2}', ""]
    assert list(messages(lines)) == [("1-0", None), ("2-0", {"a": 1}), ("2-0", None), ("2-0", {"b": 2})]


def test_a_message_that_was_cut_off_is_none() -> None:
    assert list(messages(["id: 1-0", 'data: {"a": 1}'])) == []


def test_the_end_of_a_log_is_no_event_and_a_gap_is_one() -> None:
    lines = ["event: gap", 'data: {"type": "gap"}', "", "event: end", "data: agent-deleted", ""]
    assert list(messages(lines)) == [("", {"type": "gap"}), ("", None)]
