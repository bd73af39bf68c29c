"""A secret for an agent: its commands find it in their environment; events, logs and answers never show it."""

import os

from komputer_ai.client import KomputerClient

with KomputerClient(os.environ.get("KOMPUTER_URL", "http://127.0.0.1:8080")) as komputer:
    komputer.create_secret("weather", {"token": "not-a-real-token"})
    komputer.create_agent(
        "forecaster",
        "The variable SECRET_WEATHER_TOKEN holds the key of the weather service. Say whether it is set.",
        secret_refs=["weather"],
    )
    for secret in komputer.list_secrets().secrets:
        print(secret.name, "has", secret.keys, "and is used by", secret.agent_names)
