"""The Claude CLI: its process, its options, its transcript, and the translation of its messages into events."""
