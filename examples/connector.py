"""Give an agent the tools of an MCP server. The token stays with the platform: the agent never sees it.

MCP_URL is the address of the server, MCP_TOKEN its bearer token.
"""

import os

from shared import connect, result

with connect() as komputer:
    if not any(secret.name == "notes-credentials" for secret in komputer.list_secrets().secrets):
        komputer.create_secret("notes-credentials", {"token": os.environ["MCP_TOKEN"]})
    if not any(connector["name"] == "notes" for connector in komputer.list_connectors()["connectors"]):
        komputer.create_connector(
            "notes",
            "custom",
            os.environ["MCP_URL"],
            auth_secret_name="notes-credentials",
            auth_secret_key="token",
        )
    for tool in komputer.list_connector_tools("notes")["tools"]:
        print(tool["name"], "-", tool["description"])
    print(result(komputer, "librarian", "Which notes are there?", connectors=["notes"]))
    print("attached to", komputer.get_connector("notes").agent_names)
    komputer.patch_agent("librarian", connectors=[])
    print("attached to", komputer.get_connector("notes").agent_names)
