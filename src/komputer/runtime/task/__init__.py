"""One task inside the runtime: its plan, its attempts, its end, and the messages that reach it."""
