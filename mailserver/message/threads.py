"""Threads: which message answers which (RFC 5256 §3: ORDEREDSUBJECT, REFERENCES; and REFS).

REFS is REFERENCES without the merging by subject; its threads are in the order of their latest messages, as Dovecot and
draft-ietf-morg-inthread have it.

Theory     A message is its place in the columns, which are in the order of the mailbox. Greater numbers are dummies:
           messages that are not there. Dates and places give each message a rank, by which all siblings are sorted.
Promises   Linear in messages and references but for the sorting, whatever they say: links that would need more looking
           for loops than `_STEPS` allows are left out. Nothing recurses.
On failure Nothing here fails.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

_STEPS = 2_000_000
_STEPS_EACH = 50
"""How many parents of parents are looked at: in all, and more for each message."""

NONE = -1


@dataclass(slots=True)
class Forest:
    """`roots` in order; what has no `children` is not in there. From `size` on numbers are dummies, which are roots."""

    size: int
    roots: list[int] = field(default_factory=list)
    children: dict[int, list[int]] = field(default_factory=dict)

    def firsts(self) -> list[int]:
        """Of each root the message that stands for the thread: its first one, or the first child of a dummy."""
        size, children = self.size, self.children
        return [root if root < size else children[root][0] for root in self.roots]


def ordered_subject(subjects: Sequence[int], sent: Sequence[int]) -> Forest:
    """By base subjects, which are numbers here."""
    children: dict[int, list[int]] = {}
    firsts: dict[int, int] = {}
    for place in _order(sent):
        first = firsts.setdefault(subjects[place], place)
        if first != place:
            children.setdefault(first, []).append(place)
    return Forest(len(sent), list(firsts.values()), children)


def parents(own: Sequence[int], refers: Iterable[Sequence[int]]) -> list[int]:
    """Step 1 of RFC 5256 §3: of messages, and of the dummies behind them; `NONE` where there is none.

    Identifiers are numbers; `own` 0 means that a message has none.
    """
    return _Links(own).parents(refers)


def references(parents: Sequence[int], sent: Sequence[int], subjects: Sequence[int], replies: Sequence[int]) -> Forest:
    """By references, then by subjects where these say nothing (RFC 5256 §3); 0: the base subject is empty."""
    forest = _linked(parents, sent)
    ranks = [0] * forest.size
    for rank, place in enumerate(_order(sent)):
        ranks[place] = rank
    _sort_roots(forest, ranks)  # step 4
    _merge(forest, subjects, replies, ranks)
    _sort_roots(forest, ranks)  # step 6
    return forest


def refs(parents: Sequence[int], sent: Sequence[int]) -> Forest:
    """By references alone; the thread with the latest message is the last one, then that with the latest first one."""
    forest = _linked(parents, sent)
    _sort_roots(forest, range(forest.size))
    roots, children = forest.roots, forest.children
    latest = [max(map(sent.__getitem__, _members(forest, root))) if root in children else sent[root] for root in roots]
    forest.roots = list(map(roots.__getitem__, _order(latest)))
    return forest


def _order(keys: Sequence[int]) -> list[int]:
    """Their places, sorted by them."""
    return sorted(range(len(keys)), key=keys.__getitem__)


def _sort_roots(forest: Forest, ranks: Sequence[int]) -> None:
    """By the first message of each thread."""
    keys = list(map(ranks.__getitem__, forest.firsts()))
    forest.roots = list(map(forest.roots.__getitem__, _order(keys)))


def _linked(parents: Sequence[int], sent: Sequence[int]) -> Forest:
    """Steps 2 and 3, with the children sorted."""
    forest, above = Forest(len(sent)), list(parents)
    children, roots, size = forest.children, forest.roots, forest.size
    answering: list[int] = []
    for place, parent in enumerate(parents[:size]):
        (roots if parent == NONE else answering).append(place)
    firsts: dict[int, int] = {}  # of dummies, the children that came first
    for place in answering:
        parent = above[place]
        if parent >= size:
            if above[parent] != NONE:
                parent = _real(above, parent, size)
            if parent >= size and (first := firsts.setdefault(parent, place)) == place:
                continue
        if (siblings := children.get(parent)) is None:
            children[parent] = [first, place] if parent >= size else [place]
        else:
            siblings.append(place)
    roots += [dummy if dummy in children else first for dummy, first in firsts.items()]
    for siblings in children.values():  # which are in the order of the mailbox
        if len(siblings) > 1:
            siblings.sort(key=sent.__getitem__)
    return forest


def _real(parents: list[int], parent: int, size: int) -> int:
    """The nearest parent that is no dummy, or else the uppermost dummy. Shortens the way there for the next time."""
    passed = []
    while parent >= size and parents[parent] != NONE:
        passed.append(parent)
        parent = parents[parent]
    for dummy in passed:
        parents[dummy] = parent
    return parent


def _members(forest: Forest, root: int) -> list[int]:
    """All messages of a thread."""
    found: list[int] = []
    left = [root]
    while left:
        node = left.pop()
        if node < forest.size:
            found.append(node)
        left += forest.children.get(node, ())
    return found


class _Links:
    """Step 1: parents out of references."""

    def __init__(self, own: Sequence[int]) -> None:
        self._size = len(own)
        self._nodes: dict[int, int] = {}  # by identifier
        for place, name in enumerate(own):
            if name:
                self._nodes.setdefault(name, place)
        self._parents = [NONE] * self._size
        self._children = [0] * self._size  # how many
        self._steps = _STEPS + _STEPS_EACH * self._size

    def parents(self, refers: Iterable[Sequence[int]]) -> list[int]:
        """Of messages, and of the dummies behind them."""
        parents, nodes, children = self._parents, self._nodes, self._children
        for place, names in enumerate(refers):
            before = NONE
            for name in names:
                node = nodes.get(name, NONE)
                if node == NONE:  # a new dummy, of which nothing was said yet
                    node = nodes[name] = len(parents)
                    parents.append(before)
                    children.append(0)
                    if before != NONE:
                        children[before] += 1
                elif before != NONE and parents[node] == NONE:
                    self._link(before, node)
                before = node
            old = parents[place]
            if old != before:  # what other messages say of this one counts less than what it says itself
                if old != NONE:
                    children[old] -= 1
                    parents[place] = NONE
                if before != NONE:
                    self._link(before, place)
        return parents

    def _link(self, parent: int, node: int) -> None:
        """Unless that makes a loop."""
        if parent != node and not (self._children[node] and self._is_above(node, parent)):
            self._parents[node] = parent
            self._children[parent] += 1

    def _is_above(self, upper: int, node: int) -> bool:
        parents = self._parents
        steps = self._steps
        while node != upper and node != NONE and steps:
            node = parents[node]
            steps -= 1
        self._steps = steps
        return node != NONE


def _merge(forest: Forest, subjects: Sequence[int], replies: Sequence[int], ranks: Sequence[int]) -> None:
    """Step 5: threads with the same subject become one."""
    size, children, roots = forest.size, forest.children, forest.roots
    table: dict[int, int] = {}
    named = list(zip(roots, map(subjects.__getitem__, forest.firsts()), strict=True))
    for root, subject in named:
        if not subject:
            continue
        entry = table.setdefault(subject, root)
        if entry < size and (root >= size or (replies[entry] and not replies[root])):
            table[subject] = root
    merged: set[int] = set()  # which are no roots any longer
    touched: list[int] = []
    dummies: list[int] = []
    next_dummy = max([size, *roots]) + 1
    for root, subject in named:
        if not subject or root in merged or (entry := table[subject]) == root:
            continue
        merged.add(root)
        touched.append(entry)
        if root >= size:
            children[entry] += children.pop(root)
        elif entry >= size or (replies[root] and not replies[entry]):
            children.setdefault(entry, []).append(root)
        else:
            merged.add(entry)
            table[subject] = next_dummy
            children[next_dummy] = [entry, root]
            dummies.append(next_dummy)
            next_dummy += 1
    forest.roots = [root for root in roots + dummies if root not in merged]
    for node in {*touched, *dummies}:
        if node in children:
            children[node].sort(key=ranks.__getitem__)
