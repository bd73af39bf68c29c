"""The HTTP server that every program of the platform shares: limits on heads, bodies and connections, and JSON errors
for requests that never reach the application.

The API, the gateway, the local Kubernetes API, the offline model and the runtime's forwarder are served with this
protocol. The package knows nothing of their routes. It imports uvicorn, httptools and the standard library only,
because each import adds to the start time of an agent.

Why our own protocol on top of uvicorn: neither uvicorn nor other ASGI servers (hypercorn, granian) document limits on
connections per address or on the rate of a body, nor refusals in the JSON of the application. uvicorn's alternative
parser, h11, is written in Python. A reverse proxy could do some of this, but there is none on a laptop and none inside
an agent's pod.
"""
