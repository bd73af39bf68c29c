"""How each program is put together from its settings, and how it runs until a stop signal.

One function per program, used by a cluster (`komputer.serve`) and by a laptop (`komputer.local`). These two read flags,
variables and files, open the sockets and configure the logs; everything after that is here, so that a program behaves
the same in both places.
"""
