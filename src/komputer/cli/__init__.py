"""The command line: one file per group of commands. Commands parse arguments, call other packages, and print."""
