"""The log: what it answers, and what it knows after each post."""

from functools import lru_cache

from tests.model.state import Log, Post, View

Answer = str


@lru_cache(maxsize=1 << 18)
def view(log: Log, owns: bool = True) -> View:
    """What the log knows. `owns`: the rule `uid`."""
    now = log.base
    for post in log.tail:
        now = after(now, post, owns)
    return now


def after(now: View, post: Post, owns: bool) -> View:
    if owns and post.uid != now.uid:
        dead = now.dead | {now.uid} if now.uid else now.dead
        now = View(uid=post.uid, dead=dead)
    if post.term:
        last = frozenset({**dict(now.last), post.term: post.n}.items())
        now = now._replace(term=max(now.term, post.term), last=last)
    if post.kind == "hello":
        return now
    if post.kind == "message":
        spoken_to, count = now.said
        return now._replace(said=(post.task, count + 1 if spoken_to == post.task else 1))
    is_end = post.kind == "end"
    if is_end:
        now = now._replace(ended=now.ended | {post.task}, said=("", 0) if now.said[0] == post.task else now.said)
    elif post.kind == "start":
        now = now._replace(started=now.started | {post.task}, said=("", 0))
    task, has_ended = now.live
    if not (is_end and post.task != task and not has_ended):
        now = now._replace(live=(post.task, is_end))
    return now._replace(generation=max(now.generation, post.generation or 0))


def unanswered(now: View, post: Post) -> bool:
    """A completion comes before the answer to a message."""
    return post.heard is not None and now.said[0] == post.task and now.said[1] > post.heard


def decide(now: View, post: Post, *, exact: bool, fence: bool, owns: bool, hears: bool = True) -> Answer:
    """In the order of the protocol: fenced, duplicate, gap, ended, started, stale, unacknowledged, ok. A message is
    taken only while its task is open."""
    if post.kind == "message":
        is_open = post.task in now.started - now.ended and now.live == (post.task, False)
        return "ok" if now.uid == post.uid and is_open else "ended"
    if owns and (post.uid in now.dead or (post.term and post.uid != now.uid)):
        return "fenced"
    if post.term:
        if post.term != now.term if exact else post.term < now.term:
            return "fenced"
        expected = dict(now.last).get(post.term, 0) + 1
        if post.n != expected:
            return "duplicate" if post.n < expected else "gap"
    if post.task in now.ended:
        return "ended"
    if post.kind == "start":
        if post.task in now.started:
            return "started"
        if fence and post.generation is not None and post.generation < now.generation:
            return "stale"
    if hears and unanswered(now, post):
        return "unacknowledged"
    return "ok"
