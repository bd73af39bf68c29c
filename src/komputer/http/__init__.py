"""What every HTTP server of the platform shares: limits on heads, bodies and connections, and errors as JSON below the
application.

The API, the gateway, the local Kubernetes API, the offline model and the runtime's forwarder are served with this
protocol. It knows nothing of their routes. It imports uvicorn, httptools and the standard library only, because each
import here is part of an agent's start.
"""
