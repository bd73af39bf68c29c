"""Find agents by label, page by page. The response has the total number and the start of the next page."""

from shared import connect, result

with connect() as komputer:
    for n in range(3):
        result(komputer, f"finder-{n}", f"Say {n}.")
        komputer.patch_agent(f"finder-{n}", labels={"example": "find"})
    offset = 0
    while offset is not None:
        page = komputer.list_agents(label=["example=find"], sort="-name", limit=2, offset=offset)
        print(f"{len(page.agents)} of {page.total}:", ", ".join(agent.name for agent in page.agents))
        offset = page.next_offset
    print("labels in use:", ", ".join(page.facets.labels))
