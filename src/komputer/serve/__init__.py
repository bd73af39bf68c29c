"""The programs of a cluster, one per process: their flags and variables, credentials from mounted files, log output.

Nothing is done here that a program does once it has its settings: see `komputer.bootstrap`.
"""
