"""References to objects."""

Place = tuple[str, str]
"""Namespace and name."""
