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
    is_end = post.kind == "end"
    if is_end:
        now = now._replace(ended=now.ended | {post.task})
    elif post.kind == "start":
        now = now._replace(started=now.started | {post.task})
    task, has_ended = now.live
    if post.task != task and not (is_end and not has_ended):
        now = now._replace(said=0)
    if post.kind == "said":
        now = now._replace(said=post.heard)
    if not (is_end and post.task != task and not has_ended):
        now = now._replace(live=(post.task, is_end))
    return now._replace(generation=max(now.generation, post.generation or 0))


def decide(now: View, post: Post, *, exact: bool, fence: bool, owns: bool, heard: bool) -> Answer:
    """In the order of the protocol: fenced, duplicate, hole, ended, started, stale, unheard, ok. A message is taken by
    an open task, and by no other: idle."""
    if post.kind == "said":
        return "ok" if now.live == (post.task, False) and now.uid == post.uid else "idle"
    if owns and (post.uid in now.dead or (post.term and post.uid != now.uid)):
        return "fenced"
    if post.term:
        if post.term != now.term if exact else post.term < now.term:
            return "fenced"
        expected = dict(now.last).get(post.term, 0) + 1
        if post.n != expected:
            return "duplicate" if post.n < expected else "hole"
    if post.task in now.ended:
        return "ended"
    if post.kind == "start":
        if post.task in now.started:
            return "started"
        if fence and post.generation is not None and post.generation < now.generation:
            return "stale"
    if heard and misses(now, post):
        return "unheard"
    return "ok"


def misses(now: View, post: Post) -> bool:
    """An end as completed before what was said to the task is answered."""
    return post.kind == "end" and post.how == "done" and post.task == now.live[0] and post.heard < now.said
