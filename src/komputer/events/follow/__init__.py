"""Following logs as they grow: the notifier, sources, the tail, cursors and consumer groups."""
