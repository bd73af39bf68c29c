"""Reconciling one agent. Read `reconcile.py` first, then `decide.py`; `children.py` lists what an agent consists of."""
