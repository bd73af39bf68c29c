"""Operations on agents, for people (through the REST API) and for managers (through the gateway).

`agents.py` carries them out with the patches that `claim.py` makes (pure); `requests.py` checks what clients may refer
to. `reader.py` and `overlay.py` read agents, `view.py` shows them (pure), `listing.py` filters and sorts them (pure),
`history.py` reads their events. What an agent is and which task it wants belongs to `komputer.domain`.
"""
