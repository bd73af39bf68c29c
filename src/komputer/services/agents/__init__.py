"""Operations on agents, for people (through the REST API) and for managers (through the gateway).

`agents.py` executes them with the patches that `claim.py` creates (pure); `requests.py` checks what clients may refer
to. `reader.py` and `overlay.py` read agents, `view.py` converts them for clients (pure), `listing.py` filters and sorts
them (pure), `history.py` reads their events. The model of an agent and the decision which task it wants belong to
`komputer.domain`.
"""
