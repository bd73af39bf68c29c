"""Give an agent a second task, which continues the conversation and has the files of the first."""

from shared import connect, result

with connect() as komputer:
    print("first: ", result(komputer, "writer", "Write a haiku about pods into haiku.txt."))
    print("second:", result(komputer, "writer", "Translate it into German."))
    events = komputer.get_agent_events("writer")["events"]
    sessions = {event["payload"]["session_id"] for event in events if event["type"] == "task_completed"}
    print("one conversation:", len(sessions) == 1)
