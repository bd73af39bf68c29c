"""What is done with agents, whoever asks for it: people by the API, managers by the gateway.

Here belongs what such a caller decides and writes (`claim.py`, pure; `agents.py`; `secrets.py`), which agents it finds
(`listing.py`, pure; `lists.py` keeps them as bytes) and how an agent looks to it (`view.py`, pure; `overlay.py` keeps
it current). HTTP belongs to the rooms above, what an agent is to `domain/`.
"""
