"""Builds each program from its settings, and runs it until a stop signal.

There is one function per program, used on a cluster (`komputer.serve`) and on a laptop (`komputer.local`). Those two
packages read flags, variables and files, open the sockets and configure the logs. Everything after that is here, so
that a program behaves the same in both places.
"""
