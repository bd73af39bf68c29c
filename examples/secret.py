"""Give an agent a secret. Its commands have it in their environment; events, logs and responses never show it."""

from shared import connect, result

TASK = "The variable SECRET_WEATHER_TOKEN holds the key of the weather service. Say whether it is set."

with connect() as komputer:
    if not any(secret.name == "weather" for secret in komputer.list_secrets().secrets):
        komputer.create_secret("weather", {"token": "not-a-real-token"})
    print(result(komputer, "forecaster", TASK, secret_refs=["weather"]))
    for secret in komputer.list_secrets().secrets:
        print(secret.name, "has", secret.keys, "and is used by", secret.agent_names)
