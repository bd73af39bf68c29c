"""The executable model of how a task travels, from a claim to its accounted end; and the parts, driven against it.

`state.py` says what a world is, `referee.py` what the log decides, `system.py` what may happen next,
`invariants.py` what must hold, `search.py` how worlds are explored; `python -m tests.model` runs the large
exploration, `test_model.py` a bounded one in which each rule is also switched off. One agent (of one name), every
interleaving within bounds: claims, manifest edits, a cancel, deletion and re-creation, crashes, old pods that
still speak, lost workspaces, delayed and doubled posts, a gateway that lags, a slow operator, a log that loses its
last second.

Change the model before the code when the protocol changes (`docs/architecture.md`).
"""
