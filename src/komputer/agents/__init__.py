"""What is done with agents, for everybody who does it: the API for people, the gateway for managers.

Here belongs what such a caller decides and writes (`claim.py`, pure; `agents.py`) and how an agent looks to it
(`view.py`, pure; `overlay.py` keeps it current). HTTP belongs to the rooms above, what an agent is to `resources/`.
"""
