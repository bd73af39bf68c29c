"""Operations on each noun, for REST, managers and the CLI alike. They take and return values, never HTTP.

Reads come from a watched cache, writes go to the Kubernetes API, events come from the log. `access.py` holds the rights
of a caller, which operations check before they read or write on the caller's behalf.
"""
