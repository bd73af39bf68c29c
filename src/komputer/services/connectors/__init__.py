"""What is done with connectors, for everybody who does it: the API for people, the gateway for agents.

Here belongs which addresses may be called (`addresses.py`, pure) and the only way by which they are (`outward.py`),
which Secret may be sent there (`credentials.py`), what a server's failure means (`failures.py`, pure), a server's list
of tools (`tools.py`), and the resources themselves (`connectors.py`, `view.py`, `templates.py`). What HTTP says of it
belongs to the rooms above.
"""
