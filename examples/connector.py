"""An MCP server's tools for an agent. The token stays with the platform: the agent never sees it.

MCP_URL names the server, MCP_TOKEN its bearer token.
"""

import os

from komputer_ai.client import KomputerClient

with KomputerClient(os.environ.get("KOMPUTER_URL", "http://127.0.0.1:8080")) as komputer:
    komputer.create_secret("notes-credentials", {"token": os.environ["MCP_TOKEN"]})
    komputer.create_connector(
        "notes",
        "custom",
        os.environ["MCP_URL"],
        auth_secret_name="notes-credentials",
        auth_secret_key="token",
    )
    for tool in komputer.list_connector_tools("notes")["tools"]:
        print(tool["name"], "-", tool["description"])
    komputer.create_agent("librarian", "Which notes are there?", connectors=["notes"])
    print("attached to", komputer.get_connector("notes").agent_names)
    komputer.patch_agent("librarian", connectors=[])
    print("attached to", komputer.get_connector("notes").agent_names)
