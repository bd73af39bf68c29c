"""The HTTP server that every program of the platform shares: limits on heads, bodies and connections, and JSON errors
for requests that never reach the application.

The API, the gateway, the local Kubernetes API, the offline model and the runtime's forwarder are served with this
protocol. The package knows nothing of their routes. Its server imports uvicorn, httptools and the standard library
only, because each import adds to the start time of an agent. `metrics.py`, `rate.py` and `validation.py` import more;
the server does not import them.

Why our own protocol on top of uvicorn: neither uvicorn nor hypercorn nor granian limits the connections per address or
the rate of a body, or refuses requests in the JSON of the application; hypercorn and granian offer time limits for
heads and idle connections only. uvicorn's other parser, h11, takes 50 times as long for a head (290 µs instead of 6 µs,
measured). A reverse proxy could do some of this, but there is none on a laptop and none inside an agent's pod.
"""
