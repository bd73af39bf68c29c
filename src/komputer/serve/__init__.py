"""The programs of a cluster, one per process: their flags and variables, credentials from mounted files, log output.

This package only reads settings. `komputer.bootstrap` builds and runs a program from them.
"""
