"""Operations on each kind of object, shared by the REST API and the gateway. They take and return values and know
nothing of HTTP.

Reads come from a watched cache, writes go to the Kubernetes API, events come from the log. `access.py` has the rights
of a caller, which operations check before they read or write on the caller's behalf.
"""
