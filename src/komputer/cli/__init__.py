"""The command line: one file per group of commands. It wires parts together and prints; what it does is elsewhere."""
