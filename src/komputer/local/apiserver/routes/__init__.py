"""Answers to requests, one file per noun. What an object may become is decided in `objects`, not here."""
