"""Whatever overtakes what, the store ends equal to the server, and never goes back on the way."""

from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from komputer.kube import Manifest
from komputer.kube.store import CacheChange, ObjectStore, is_terminating

NAMES = st.sampled_from(["ada", "bob"])


class Overtaking(RuleBasedStateMachine):
    """A server with a history, at most one watch or list in flight, and writers whose answers arrive at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.store = ObjectStore()
        self.version = 10
        self.truth: dict[str, Manifest] = {}
        self.history: list[tuple[int, str, Manifest]] = []
        self.delivered = 0
        self.list_in_flight: tuple[list[Manifest], int] | None = None
        self.answers: list[Manifest] = []
        self.deletions: list[Manifest] = []
        self.forgotten: set[str] = set()
        self.mirror: dict[str, Manifest] = {}
        self.newest_shown: dict[str, int] = {}
        self.uids = 0

    # The server

    def write(self, type: str, manifest: Manifest, **metadata: Any) -> Manifest:
        self.version += 1
        written = {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": str(self.version)} | metadata}
        self.history.append((self.version, type, written))
        name = written["metadata"]["name"]
        if type == "DELETED":
            del self.truth[name]
        else:
            self.truth[name] = written
        return written

    @initialize()
    def starts(self) -> None:
        self.follow(self.store.listed([], self.version))
        self.delivered = self.version

    @rule(name=NAMES)
    def creates(self, name: str) -> None:
        if name not in self.truth:
            self.uids += 1
            self.answers.append(self.write("ADDED", {"metadata": {"name": name, "uid": f"u{self.uids}"}}))

    @rule(name=NAMES)
    def updates(self, name: str) -> None:
        if name in self.truth:
            self.answers.append(self.write("MODIFIED", self.truth[name]))

    @rule(name=NAMES, held_by_a_finalizer=st.booleans())
    def deletes(self, name: str, held_by_a_finalizer: bool) -> None:
        if name not in self.truth:
            return
        if held_by_a_finalizer and not is_terminating(self.truth[name]):
            self.answers.append(self.write("MODIFIED", self.truth[name], deletionTimestamp="now"))
        else:
            read_before = self.truth[name]
            self.write("DELETED", read_before)
            self.deletions.append(read_before)

    # What the store is told

    @rule(pick=st.randoms(use_true_random=False))
    def an_answer_arrives(self, pick: Any) -> None:
        if self.answers:
            answer = self.answers.pop(pick.randrange(len(self.answers)))
            self.follow(self.store.put(answer))
            self.expect_at_least(answer)

    @rule(pick=st.randoms(use_true_random=False))
    def the_answer_to_a_deletion_arrives(self, pick: Any) -> None:
        if self.deletions:
            deleted = self.deletions.pop(pick.randrange(len(self.deletions)))
            self.follow(self.store.forget(deleted))
            self.forgotten.add(deleted["metadata"]["uid"])

    @precondition(lambda self: self.list_in_flight is None)
    @rule()
    def the_watch_tells(self) -> None:
        for version, type, manifest in self.history:
            if version > self.delivered:
                self.delivered = version
                self.follow(self.store.watched(type, manifest))  # type: ignore[arg-type]
                return

    @precondition(lambda self: self.list_in_flight is None)
    @rule()
    def the_watch_bookmarks(self) -> None:
        if not any(version > self.delivered for version, _, _ in self.history):
            self.store.bookmark(self.version)
            self.delivered = self.version

    @precondition(lambda self: self.list_in_flight is None)
    @rule()
    def the_watch_breaks_and_a_list_is_made(self) -> None:
        self.list_in_flight = (list(self.truth.values()), self.version)

    @precondition(lambda self: self.list_in_flight is not None)
    @rule()
    def the_list_arrives(self) -> None:
        assert self.list_in_flight is not None
        manifests, version = self.list_in_flight
        self.follow(self.store.listed(manifests, version))
        self.delivered, self.list_in_flight = version, None

    # What must hold

    def follow(self, changes: list[CacheChange]) -> None:
        """A subscriber that only sees changes ends up with the same objects, each change fitting the one before."""
        for change in changes:
            name = change.manifest["metadata"]["name"]
            assert self.mirror.get(name) == change.old
            if change.type == "DELETED":
                assert change.old is not None
                assert change.old["metadata"]["uid"] == change.manifest["metadata"]["uid"]
                del self.mirror[name]
                continue
            assert (change.type == "ADDED") == (change.old is None)
            version = int(change.manifest["metadata"]["resourceVersion"])
            assert version > self.newest_shown.get(name, 0), "an older state was shown after a newer one"
            self.newest_shown[name] = version
            self.mirror[name] = change.manifest

    def expect_at_least(self, answer: Manifest) -> None:
        metadata = answer["metadata"]
        shown = self.store.get(None, metadata["name"])
        later = [
            manifest
            for version, _, manifest in self.history
            if version > int(metadata["resourceVersion"]) and manifest["metadata"]["name"] == metadata["name"]
        ]
        if not later:
            assert shown == answer, "we do not read our own write"

    @invariant()
    def changes_tell_all(self) -> None:
        assert {manifest["metadata"]["name"]: manifest for manifest in self.store.items()} == self.mirror

    @invariant()
    def what_we_deleted_is_gone_or_going(self) -> None:
        for manifest in self.store.items():
            assert manifest["metadata"]["uid"] not in self.forgotten or is_terminating(manifest)

    def teardown(self) -> None:
        if self.list_in_flight is not None:
            self.the_list_arrives()
        for version, type, manifest in self.history:
            if version > self.delivered:
                self.follow(self.store.watched(type, manifest))  # type: ignore[arg-type]
        assert {m["metadata"]["name"]: m for m in self.store.items()} == self.truth
        for answer in self.answers:
            assert self.store.put(answer) == []
        for deleted in self.deletions:
            assert self.store.forget(deleted) == []
        assert {m["metadata"]["name"]: m for m in self.store.items()} == self.truth


TestOvertaking = Overtaking.TestCase
TestOvertaking.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
