"""Lists that are read page by page (`limit` and `continue`)."""

import base64
import binascii
from collections import OrderedDict
from dataclasses import dataclass

from komputer.local.apiserver.errors import bad_request, expired
from komputer.local.apiserver.store import Stored

MAX_SNAPSHOTS = 100
"""How many unfinished lists are kept; a guess. If there are more, the oldest one is dropped. A request for its next
page is answered with 410, after which clients list again."""


@dataclass(frozen=True, slots=True)
class ListPage:
    """A part of a list as it was at `revision`. `token` is the `continue` token of the next page; empty on the last
    page."""

    revision: int
    items: list[Stored]
    token: str
    remaining: int


class Snapshots:
    """The unfinished lists. All pages of a list show the objects as they were when the first page was read. The real
    server reads them from etcd, which keeps old revisions; here the list of immutable objects itself is kept."""

    def __init__(self) -> None:
        self._lists: OrderedDict[str, tuple[int, list[Stored]]] = OrderedDict()

    def first_page(self, revision: int, items: list[Stored], limit: int | None) -> ListPage:
        """Return the first `limit` items (None or 0: all), and keep the list if there are more."""
        page = items[:limit] if limit else items
        if len(page) == len(items):
            return ListPage(revision, page, "", 0)
        snapshot_id = f"{revision}-{id(items):x}"
        self._lists[snapshot_id] = (revision, items)
        while len(self._lists) > MAX_SNAPSHOTS:
            self._lists.popitem(last=False)
        return self._page(snapshot_id, 0, limit)

    def next_page(self, token: str, limit: int | None) -> ListPage:
        """Return the page of a `continue` token. Raises StatusError 400 or 410."""
        try:
            snapshot_id, start = base64.urlsafe_b64decode(token.encode()).decode().rsplit(":", 1)
            position = int(start)
        except (ValueError, binascii.Error) as error:
            raise bad_request("continue key is not valid") from error
        snapshot = self._lists.get(snapshot_id)
        if snapshot is None or not 0 <= position <= len(snapshot[1]):
            message = (
                "The provided continue parameter is too old to display a consistent list result. You can start a"
                " new list without the continue parameter."
            )
            raise expired(message)
        return self._page(snapshot_id, position, limit)

    def _page(self, snapshot_id: str, position: int, limit: int | None) -> ListPage:
        revision, items = self._lists[snapshot_id]
        page = items[position : position + limit] if limit else items[position:]
        end = position + len(page)
        remaining = len(items) - end
        token = base64.urlsafe_b64encode(f"{snapshot_id}:{end}".encode()).decode() if remaining else ""
        return ListPage(revision, page, token, remaining)
