"""Who is banned now, in memory: what is asked for each connection.

Promises   A look costs next to nothing while nobody is banned; else one look-up for each length of prefix among the
           bans. Bans end by the monotonic clock: a wall clock that is set neither frees nor keeps anybody.
On failure Nothing here fails.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from dataclasses import dataclass
from itertools import islice

from mailserver.policy.bans import ALL, BANS, Ban
from mailserver.policy.networks import Address, ip_of

AT_ONCE = 1000  # networks that are looked through

_Key = tuple[int, int, int]  # version, length of the prefix, the prefix


@dataclass(frozen=True, slots=True)
class Banned:
    """`ends` in monotonic time. `spared`: accounts that are logged in to from there all the same."""

    ban: Ban
    ends: float
    spared: frozenset[str] = frozenset()


class BannedNow:
    """One for each process; what the ledger has is put in as it becomes known."""

    def __init__(self) -> None:
        self._bans: dict[_Key, dict[str, Banned]] = {}
        self._lengths: dict[int, Counter[int]] = {4: Counter(), 6: Counter()}

    def __len__(self) -> int:
        return len(self._bans)

    def put(self, banned: Banned, now: float) -> None:
        """In place of what was known of this network and account; one that has ended is taken out."""
        key = _key_of(banned.ban.network)
        accounts = self._bans.get(key)
        if banned.ends <= now:
            if accounts is not None:
                accounts.pop(banned.ban.account, None)
                self._tidy(key)
            return
        if accounts is None:
            if len(self._bans) >= BANS:
                self._drop(next(iter(self._bans)))
            accounts = self._bans[key] = {}
            self._lengths[key[0]][key[1]] += 1
        accounts[banned.ban.account] = banned

    def of(self, address: str, now: float, account: str = ALL) -> list[Banned]:
        """The bans of this address, for the account or for all; the one that ends last comes first."""
        if not self._bans or (ip := ip_of(address)) is None:
            return []
        found = [self._bans[key].get(account) for key in self._keys(ip)]
        return sorted((each for each in found if each and each.ends > now), key=lambda each: -each.ends)

    def knows(self, address: str) -> bool:
        """There is some ban of it, perhaps for an account only."""
        return bool(self._bans) and (ip := ip_of(address)) is not None and bool(self._keys(ip))

    def prune(self, now: float) -> None:
        """Takes out those that have ended, of some networks; those that are left have their turn last the next time."""
        for key in list(islice(self._bans, AT_ONCE)):
            accounts = self._bans.pop(key)
            for account in [account for account, banned in accounts.items() if banned.ends <= now]:
                del accounts[account]
            self._bans[key] = accounts
            self._tidy(key)

    def _keys(self, ip: Address) -> list[_Key]:
        bits, number = ip.max_prefixlen, int(ip)
        keys = ((ip.version, length, number >> (bits - length)) for length in self._lengths[ip.version])
        return [key for key in keys if key in self._bans]

    def _tidy(self, key: _Key) -> None:
        if not self._bans[key]:
            self._drop(key)

    def _drop(self, key: _Key) -> None:
        del self._bans[key]
        version, length, _ = key
        self._lengths[version][length] -= 1
        if not self._lengths[version][length]:
            del self._lengths[version][length]


def _key_of(network: str) -> _Key:
    parsed = ipaddress.ip_network(network)
    length = parsed.prefixlen
    return parsed.version, length, int(parsed.network_address) >> (parsed.max_prefixlen - length)
