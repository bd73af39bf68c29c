"""One process each of api, gateway and operator, as a cluster runs them: what they are told, where they listen, how
they log, and how they end. What they do is theirs; the laptop's `up` shares `http.py` and `logs.py`, and starts them
its own way.
"""
