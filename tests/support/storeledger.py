"""What the store promised (the records of `storelog`), held against what it shows afterwards.

An operation that was acknowledged must be there; one that was begun and not acknowledged may be there, for each message
on its own, but a folder always is in one place, with all its mail. A UID once shown stands for that message for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from tests.support.oldindex import ONLY_IN_INDEX
from tests.support.storelog import Begun, Done, Effects, Listed, Observation, Record, Refused, Seen, View

NOTHING = Effects("nothing")

_UNLETTERED = frozenset({ONLY_IN_INDEX})


@dataclass(slots=True)
class Known:
    """A folder. `validity` is 0 until it was shown."""

    validity: int = 0
    messages: dict[int, Seen] = field(default_factory=dict)
    coming: dict[str, list[frozenset[str]]] = field(default_factory=dict)
    """Texts that are there and whose UID was not told yet, with the flags of each message that has it."""
    told: dict[int, str] = field(default_factory=dict)
    """Every UID that was ever shown."""
    floor: int = 0
    """The highest of them when all messages were shown: new ones get greater ones."""
    delivered: set[str] = field(default_factory=set)
    """Texts that got their UID by being shown."""
    modseq: dict[str, int] = field(default_factory=dict)
    """What each user was told last."""

    def expect(self, text: str, flags: frozenset[str]) -> None:
        self.coming.setdefault(text, []).append(flags)

    def arrived(self, text: str, shown: frozenset[str] | None = None) -> frozenset[str] | None:
        """The flags of a message that was expected, best with those that are shown; None: it was not expected."""
        waiting = self.coming.pop(text, [])
        if not waiting:
            return None
        flags = waiting.pop(waiting.index(shown) if shown in waiting else -1)
        if waiting:
            self.coming[text] = waiting
        return flags


class Fault(Enum):
    """What happened to the account's disk, and may have been forgotten by that."""

    DEATH = auto()
    """Nothing is forgotten."""
    REFUSAL = auto()
    """The index may lack what it could not write: MODSEQ."""
    POWER = auto()
    """The index may be an older one or none: besides MODSEQ, keywords that no letter stands for. A message that was
    delivered and is shown is not synced under its UID: it may get a greater one."""


def _known(view: View) -> Known:
    messages = dict(view.messages)
    told = {uid: seen.text for uid, seen in messages.items()}
    return Known(view.validity, messages, told=told, floor=max(told, default=0), modseq={"": view.modseq})


class Ledger:
    """Begins with an account as it was shown. `problems` tells what was promised and is not so."""

    def __init__(self, before: Observation, fault: Fault = Fault.DEATH) -> None:
        self.problems: list[str] = []
        self.fault = fault
        self.folders = {name: _known(view) for name, view in before.folders.items()}
        self.validities = {known.validity for known in self.folders.values()}
        self.given = {(k.validity, uid): text for k in self.folders.values() for uid, text in k.told.items()}
        """Which text a UIDVALIDITY and UID stood for."""
        self.subscriptions = before.subscriptions
        self._begun: Effects | None = None

    def read(self, records: Iterable[Record]) -> None:
        for record in records:
            self.note(record)

    def note(self, record: Record) -> None:
        match record:
            case Begun(effects):
                self._begun = effects
            case Done(given):
                assert self._begun is not None
                self._acknowledge(self._begun, given)
                self._begun = None
            case Refused(reason, seen, user):
                if self._begun is not None and self._begun.what == "deliver" and not reason.startswith("4"):
                    self._problem(f"a delivery was refused with {reason}")
                self.settle(seen, user)
            case Listed(folder, view, user):
                self._compare(folder, view, NOTHING, user)

    def forget_index(self, *, clock_went_back: bool) -> None:
        """It was deleted. What is newer than all before is told by the clock, then."""
        self.fault = Fault.POWER
        for known in self.folders.values():
            if clock_went_back:
                known.modseq.clear()

    def settle(self, seen: Observation, user: str = "") -> None:
        """What is shown must be what was acknowledged, and may be what was only begun; from now on it is what is."""
        effects = self._begun or NOTHING
        self._begun = None
        self._settle_folders(seen, effects)
        for name, view in seen.folders.items():
            self._compare(name, view, effects, user)
        for source, uids in effects.vanish.items():
            self._nothing_between(source, uids, effects)
        for name in self.subscriptions ^ seen.subscriptions:
            if effects.subscribed.get(name) is not (name in seen.subscriptions):
                self._problem(f"the subscription of {name!r} is {'there' if name in seen.subscriptions else 'gone'}")
        self.subscriptions = seen.subscriptions

    def _settle_folders(self, seen: Observation, effects: Effects) -> None:
        unexplained = set(seen.folders)
        settled: dict[str, Known] = {}
        for name, known in self.folders.items():
            places = {name, effects.moved.get(name, name)}
            found = [each for each in places if each is not None and self._is(known, each, seen)]
            if len(found) > 1:
                self._problem(f"the folder {name!r} is there twice: {sorted(found)}")
            if not found and None not in places:
                self._problem(f"the folder {name!r} is lost during {effects.what}")
            for each in found:
                unexplained.discard(each)
                settled[each] = known
        for name in unexplained:
            if name not in effects.created:
                self._problem(f"the folder {name!r} came out of nothing during {effects.what}")
            settled[name] = Known()
        self.folders = settled

    def _is(self, known: Known, name: str, seen: Observation) -> bool:
        view = seen.folders.get(name)
        return view is not None and known.validity in (0, view.validity)

    def _acknowledge(self, effects: Effects, given: Mapping[str, Mapping[int, str]]) -> None:
        moved = {name: self.folders.pop(name) for name in effects.moved}
        for name, known in moved.items():
            target = effects.moved[name]
            if target is not None:
                self.folders[target] = known
        self.folders |= {name: Known() for name in effects.created}
        for name, uids in effects.vanish.items():
            for uid in uids:
                self.folders[name].messages.pop(uid, None)
        for name, changed in effects.flags.items():
            for uid, flags in changed.items():
                self.folders[name].messages[uid] = self.folders[name].messages[uid]._replace(flags=flags)
        for name, texts in effects.appear.items():
            for text, flags in texts.items():
                self.folders[name].expect(text, flags)
        for name, texts_by_uid in given.items():
            for uid, text in texts_by_uid.items():
                flags = self.folders[name].arrived(text)
                assert flags is not None
                self._new_uid(name, uid, Seen(text, flags))
        for name, wanted in effects.subscribed.items():
            self.subscriptions = self.subscriptions | {name} if wanted else self.subscriptions - {name}

    def _compare(self, name: str, view: View, effects: Effects, user: str = "") -> None:
        """One folder, in its place. Without a `user` this is a new process, which knows what all others were told."""
        known = self.folders.get(name)
        if known is None:
            self._problem(f"the folder {name!r} is shown and should not exist")
            return
        if known.validity == 0:
            known.validity = view.validity
            if view.validity in self.validities:
                self._problem(f"UIDVALIDITY {view.validity} is used again for {name!r}")
            self.validities.add(view.validity)
        elif known.validity != view.validity:
            self._problem(f"{name!r} has UIDVALIDITY {view.validity} instead of {known.validity}")
        may_come = dict(effects.appear.get(name, {}))
        may_become = effects.flags.get(name, {})
        if self.fault is Fault.POWER:
            self._take_back(known, view, effects.vanish.get(name, frozenset()))
        for uid, seen in sorted(view.messages.items()):
            before = known.messages.get(uid)
            if before is not None:
                if seen.text != before.text:
                    self._problem(f"{name!r} UID {uid} is {seen.text} instead of {before.text}")
                after = may_become.get(uid, before.flags)
                alone = (before.flags & _UNLETTERED) | after  # a crash between the file's name and the index
                if not any(self._same(seen.flags, each) for each in (before.flags, after, alone)):
                    self._problem(f"{name!r} UID {uid} has {set(seen.flags)} instead of {set(before.flags)}")
                known.messages[uid] = seen
                continue
            flags = known.arrived(seen.text, seen.flags)
            if flags is not None:
                known.delivered.add(seen.text)
            else:
                flags = may_come.pop(seen.text, None)
            if flags is None:
                self._problem(f"{name!r} UID {uid} is {seen.text}, which is not expected after {effects.what}")
            elif not self._same(flags, seen.flags):
                self._problem(f"{name!r} UID {uid} appeared with {set(seen.flags)} instead of {set(flags)}")
            self._new_uid(name, uid, seen)
        for uid in known.messages.keys() - view.messages.keys():
            text = known.messages.pop(uid).text
            if uid not in effects.vanish.get(name, frozenset()):
                self._problem(f"{name!r} UID {uid}, {text}, is lost during {effects.what}")
        for text in known.coming:
            self._problem(f"{name!r}: {text} is lost during {effects.what}")
        known.coming.clear()
        known.floor = max(known.told, default=0)
        modseq = known.modseq.get(user, 0) if user else max(known.modseq.values(), default=0)
        if view.modseq < modseq and (user or self.fault is Fault.DEATH):
            self._problem(f"{name!r}: MODSEQ went back from {modseq} to {view.modseq} for {user or 'a new process'}")
        known.modseq[user] = view.modseq
        if not user and view.uidnext <= max(known.told, default=0):
            self._problem(f"{name!r}: UIDNEXT {view.uidnext} was given already")

    def _take_back(self, known: Known, view: View, expunging: frozenset[int]) -> None:
        """UIDs that were not synced: their messages come again."""
        shown = {seen.text for uid, seen in view.messages.items() if uid not in known.messages}
        for uid in known.messages.keys() - view.messages.keys():
            if uid in expunging and known.messages[uid].text not in shown:
                continue
            if known.messages[uid].text in known.delivered:
                seen = known.messages.pop(uid)
                known.expect(seen.text, seen.flags)

    def _new_uid(self, name: str, uid: int, seen: Seen) -> None:
        known = self.folders[name]
        if uid <= known.floor or known.told.get(uid, seen.text) != seen.text:
            self._problem(f"{name!r}: UID {uid} for {seen.text} was given before, up to {known.floor}")
        known.told[uid] = seen.text
        known.messages[uid] = seen
        self.given[known.validity, uid] = seen.text

    def _nothing_between(self, source: str, uids: Iterable[int], effects: Effects) -> None:
        """A message that moves is here or there, or in both places."""
        targets = [target for target in effects.appear if target in self.folders]
        if not effects.appear or source not in self.folders:
            return
        there = {seen.text for place in [source, *targets] for seen in self.folders[place].messages.values()}
        for uid in uids:
            if self.folders[source].told[uid] not in there:
                self._problem(f"{source!r} UID {uid} was lost on its way")

    def _same(self, one: frozenset[str], other: frozenset[str]) -> bool:
        ignored = _UNLETTERED if self.fault is Fault.POWER else frozenset()
        return one - ignored == other - ignored

    def _problem(self, text: str) -> None:
        self.problems.append(text)
