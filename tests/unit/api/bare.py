"""The app's routes without a cluster and a log: what an operation says of a request before it asks either."""

from functools import cache

import httpx
import httpx2
from fastapi import FastAPI
from fastapi.routing import APIRoute

from komputer import api
from komputer.api.app import ROUTERS
from komputer.events.log import Log
from komputer.kube import Cluster


@cache
def app() -> FastAPI:
    """It asks nobody before it has read the agents, which it never does."""
    return api.app(api.ApiSettings(), Cluster(httpx2.AsyncClient()), Log.connect("redis://127.0.0.1:1"))


def client() -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app(), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://localhost")


def routes() -> list[APIRoute]:
    return [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]


def method_of(route: APIRoute) -> str:
    return next(iter(route.methods or {"GET"}))


def path_of(route: APIRoute) -> str:
    return route.path.replace("{name}", "ada")
