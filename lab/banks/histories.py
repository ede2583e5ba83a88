"""Checks the answers that an application got, one by one: in mere counts one fault could hide another."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Answered:
    """An answered request, which created one version of one person's record."""

    person: str
    version: int
    began: float
    """When the request was sent, in seconds of a monotonic clock."""
    ended: float
    """When the answer arrived, by the same clock."""


def breaches(answers: Sequence[Answered]) -> Iterator[str]:
    """Sentences about violations of linearizability: each version of a record is committed once, in its order.

    If one request about a person was answered before another was sent, the other creates a greater version. No
    version is missing or answered twice.
    """
    by_person: defaultdict[str, list[Answered]] = defaultdict(list)
    for answer in answers:
        by_person[answer.person].append(answer)
    for person, history in sorted(by_person.items()):
        versions = sorted(answer.version for answer in history)
        for one, other in pairwise(versions):
            if one == other:
                yield f"{person}: version {one} was answered twice"
        if missing := set(range(1, versions[-1] + 1)) - set(versions):
            yield f"{person}: version {versions[-1]} was answered, and never {', '.join(map(str, sorted(missing)))}"
        newest: Answered | None = None
        ended = sorted(history, key=lambda answer: answer.ended)
        waiting = iter(ended)
        following = next(waiting, None)
        for answer in sorted(history, key=lambda answer: answer.began):
            while following is not None and following.ended <= answer.began:
                newest = following if newest is None else max(newest, following, key=lambda each: each.version)
                following = next(waiting, None)
            if newest is not None and answer.version < newest.version:
                yield f"{person}: version {answer.version} was asked for after {newest.version} had been answered"
