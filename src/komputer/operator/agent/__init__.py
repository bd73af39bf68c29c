"""Reconciles one agent. Read `reconcile.py` first, then `decide.py`. `children.py` lists the objects of an agent."""
