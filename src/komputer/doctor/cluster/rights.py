"""Checks whether the service account of each part has all rights that the part needs."""

import asyncio

from komputer.doctor.cluster.installation import PARTS, Installation
from komputer.doctor.report import Result, failed, ok, skipped
from komputer.serve.rights import IN_NAMESPACES, OF_THE_CLUSTER

MAX_LISTED = 3


async def examine(installation: Installation) -> Result:
    if not installation.has_parts:
        return skipped("no part was found")
    reviews = [
        _lacking(installation, part, verb, rule.group, resource, namespace)
        for part in PARTS
        for rules, namespaces in (
            (IN_NAMESPACES[part], installation.watched_namespaces(part)),
            (OF_THE_CLUSTER[part], [None]),
        )
        for namespace in namespaces
        for rule in rules
        for resource in rule.resources
        for verb in rule.verbs
    ]
    lacking = sorted(filter(None, await asyncio.gather(*reviews)))
    if lacking:
        more = f" and {len(lacking) - MAX_LISTED} more" if len(lacking) > MAX_LISTED else ""
        message = f"lacking: {'; '.join(lacking[:MAX_LISTED])}{more}"
        return failed(message, "rbac.create=true, or grant what docs/security.md lists")
    return ok(f"all {len(reviews)} that the parts need")


async def _lacking(
    installation: Installation, part: str, verb: str, group: str, resource: str, namespace: str | None
) -> str | None:
    """Return a sentence if the part does not have this right in the namespace (None: in all namespaces), else None."""
    home = installation.namespace
    user = f"system:serviceaccount:{home}:{installation.service_account(part)}"
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{home}", "system:authenticated"]
    plural, _, subresource = resource.partition("/")
    allowed = await installation.cluster.review_access(
        user, groups, verb, group, plural, namespace, subresource=subresource or None
    )
    return None if allowed else f"{part} may not {verb} {resource}"
