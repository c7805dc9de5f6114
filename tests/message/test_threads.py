"""Threads: against a naive model that follows RFC 5256 to the letter, and that hostile references cost little."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field

from hypothesis import example, given, settings
from hypothesis import strategies as st

from mailserver.message.threads import Forest, ordered_subject, parents, references, refs


@dataclass(frozen=True)
class Mail:
    own: int
    refers: tuple[int, ...] = ()
    sent: int = 0
    subject: int = 0
    reply: bool = False


Tree = tuple["int | None", tuple["Tree", ...]]  # type: ignore[misc]
"""A message, None for a dummy, and what is below it."""

IDS = st.integers(1, 7)
MAILS = st.lists(
    st.builds(
        Mail,
        own=st.integers(0, 6),
        refers=st.lists(IDS, max_size=4, unique=True).map(tuple),
        sent=st.integers(0, 4),
        subject=st.integers(0, 2),
        reply=st.booleans(),
    ),
    max_size=9,
)


# the model


@dataclass(eq=False)
class Node:
    place: int | None = None
    parent: Node | None = None
    children: list[Node] = field(default_factory=list)

    def adopt(self, child: Node) -> None:
        if child.parent is not None:
            child.parent.children.remove(child)
        child.parent = self
        self.children.append(child)

    def has_below(self, other: Node) -> bool:
        return other is self or any(child.has_below(other) for child in self.children)

    def pruned(self) -> list[Node]:
        """Step 3: the node without dummies in it; a dummy gives its children."""
        below = [node for child in self.children for node in child.pruned()]
        if self.place is None:
            return below
        self.children = below
        return [self]


def linked(mails: list[Mail]) -> list[Node]:
    """Steps 1 to 3."""
    table: dict[int, Node] = {}
    nodes = []
    for place, mail in enumerate(mails):
        node = Node(place)
        nodes.append(node)
        if mail.own and mail.own not in table:
            table[mail.own] = node
    for mail, node in zip(mails, nodes, strict=True):
        chain = [table.setdefault(name, Node()) for name in mail.refers]
        for upper, lower in itertools.pairwise(chain):
            if lower.parent is None and not lower.has_below(upper):
                upper.adopt(lower)
        if node.parent is not None:
            node.parent.children.remove(node)
            node.parent = None
        if chain and not node.has_below(chain[-1]):
            chain[-1].adopt(node)
    heads = [node for node in [*nodes, *table.values()] if node.parent is None]
    roots: list[Node] = []
    for head in dict.fromkeys(heads):
        below = head.pruned()
        if head.place is not None or len(below) == 1:
            roots += below
        elif below:
            head.children = below
            roots.append(head)
    return roots


def tree(mails: list[Mail], node: Node) -> Tree:
    children = sorted(node.children, key=lambda child: key_of(mails, child))
    return node.place, tuple(tree(mails, child) for child in children)


def key_of(mails: list[Mail], node: Node) -> tuple[int, int]:
    """Sent date, and place in the mailbox, of a message or of a dummy's first child."""
    if node.place is None:
        return min(key_of(mails, child) for child in node.children)
    return mails[node.place].sent, node.place


def model_of_references(mails: list[Mail]) -> list[Tree]:
    roots = sorted(linked(mails), key=lambda node: key_of(mails, node))

    def first(node: Node) -> Mail:
        if node.place is not None:
            return mails[node.place]
        place = min(node.children, key=lambda child: key_of(mails, child)).place
        assert place is not None
        return mails[place]

    def reply(node: Node) -> bool:
        return node.place is not None and mails[node.place].reply

    subjects = {node: first(node).subject for node in roots}
    table: dict[int, Node] = {}
    for node in roots:
        subject = subjects[node]
        if subject == 0:
            continue
        entry = table.setdefault(subject, node)
        if entry.place is not None and (node.place is None or (reply(entry) and not reply(node))):
            table[subject] = node
    left = list(roots)
    for node in roots:
        subject = subjects[node]
        if subject == 0 or node not in left or table[subject] is node:
            continue
        other = table[subject]
        left.remove(node)
        if node.place is None and other.place is None:
            other.children += node.children
        elif other.place is None or (reply(node) and not reply(other)):
            other.children.append(node)
        else:
            left.remove(other)
            table[subject] = Node(children=[other, node])
            left.append(table[subject])
    return [tree(mails, node) for node in sorted(left, key=lambda node: key_of(mails, node))]


def model_of_refs(mails: list[Mail]) -> list[Tree]:
    def latest(node: Node) -> int:
        dates = [latest(child) for child in node.children]
        return max([*dates, *([mails[node.place].sent] if node.place is not None else [])])

    def first(node: Node) -> int:
        return node.place if node.place is not None else min(key_of(mails, child) for child in node.children)[1]

    return [tree(mails, node) for node in sorted(linked(mails), key=lambda node: (latest(node), first(node)))]


def model_of_ordered_subject(mails: list[Mail]) -> list[Tree]:
    order = sorted(range(len(mails)), key=lambda place: (mails[place].subject, mails[place].sent, place))
    threads = [list(group) for _, group in itertools.groupby(order, key=lambda place: mails[place].subject)]
    threads.sort(key=lambda thread: (mails[thread[0]].sent, thread[0]))
    return [(thread[0], tuple((place, ()) for place in thread[1:])) for thread in threads]


# what is tested, in the form of the model


def trees(forest: Forest) -> list[Tree]:
    def below(node: int) -> Tree:
        return node if node < forest.size else None, tuple(below(child) for child in forest.children.get(node, ()))

    return [below(root) for root in forest.roots]


def parents_of(mails: list[Mail]) -> list[int]:
    return parents([mail.own for mail in mails], [mail.refers for mail in mails])


def by_references(mails: list[Mail]) -> Forest:
    subjects, replies = [mail.subject for mail in mails], [mail.reply for mail in mails]
    return references(parents_of(mails), [mail.sent for mail in mails], subjects, replies)


def by_refs(mails: list[Mail]) -> Forest:
    return refs(parents_of(mails), [mail.sent for mail in mails])


@settings(max_examples=500)
@given(MAILS)
@example([Mail(0, (1,), 0, 1), Mail(0, (1,), 1, 1), Mail(0, (2,), 2, 1), Mail(0, (2,), 2, 1)])  # two dummies merge
@example([Mail(1, (), 0, 1), Mail(2, (), 1, 1, True), Mail(3, (), 2, 1), Mail(4, (), 3, 1, True)])
def test_references_agree_with_the_model(mails: list[Mail]) -> None:
    assert trees(by_references(mails)) == model_of_references(mails)


@settings(max_examples=300)
@given(MAILS)
def test_refs_agree_with_the_model(mails: list[Mail]) -> None:
    assert trees(by_refs(mails)) == model_of_refs(mails)


@given(MAILS)
def test_ordered_subject_agrees_with_the_model(mails: list[Mail]) -> None:
    forest = ordered_subject([mail.subject for mail in mails], [mail.sent for mail in mails])
    assert trees(forest) == model_of_ordered_subject(mails)


@given(MAILS)
def test_each_message_is_in_one_place(mails: list[Mail]) -> None:
    def places(found: list[Tree]) -> list[int]:
        return [place for node, below in found for place in ([] if node is None else [node]) + places(list(below))]

    for forest in (by_references(mails), by_refs(mails)):
        assert sorted(places(trees(forest))) == list(range(len(mails)))


# hostile references


def in_time(mails: list[Mail], seconds: float = 30.0) -> None:
    began = time.process_time()
    by_references(mails)
    by_refs(mails)
    assert time.process_time() - began < seconds


COUNT = 20_000


def test_one_chain_of_all_messages_in_either_order() -> None:
    chain = [Mail(place + 1, (place,) if place else (), place) for place in range(COUNT)]
    in_time(chain)
    in_time(chain[::-1])
    (root,) = by_refs(chain).roots
    assert root == 0


def test_long_chains_that_are_tried_to_be_closed() -> None:
    """Each message names the end of a chain of all and its beginning, so that a loop must be looked for."""
    chain = [Mail(place + 1, (place,) if place else (), place) for place in range(COUNT)]
    in_time(chain + [Mail(0, (COUNT, 1, COUNT - 1 - place, 2), place) for place in range(COUNT)])


def test_chains_of_messages_that_are_not_there() -> None:
    in_time([Mail(0, tuple(range(place * 99 + 1, place * 99 + 101)), place) for place in range(COUNT // 4)])
