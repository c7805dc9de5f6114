"""GETQUOTA, GETQUOTAROOT, SETQUOTA (RFC 9208).

Promises   An account that has limits is one quota root, for all its mailboxes; one without has none. What is told is
           counted now. Octets are told in units of 1024, begun ones as whole, so what is within a limit is told so.
On failure A root that is none of the account's is NONEXISTENT. SETQUOTA is always refused: limits are the
           administrator's, in accounts.toml.
"""

from __future__ import annotations

from mailserver.imap.commands import GetQuota, GetQuotaRoot, SetQuota
from mailserver.mail import UNLIMITED
from mailserver.sessions.imap.core import Core
from mailserver.sessions.imap.refusals import Refused

_ROOT = b"account"
_UNIT = 1024


async def get_quota(core: Core, tag: str, command: GetQuota) -> None:
    _must_exist(core, command.root)
    core.engine.untagged(await _quota(core))
    core.engine.done(tag, "OK", "Quota given")


async def get_quota_root(core: Core, tag: str, command: GetQuotaRoot) -> None:
    root = b"QUOTAROOT " + core.engine.mailbox(command.mailbox)
    if core.account.space.quota == UNLIMITED:
        core.engine.untagged(root)
    else:
        quota = await _quota(core)
        core.engine.untagged(b'%b "%b"' % (root, _ROOT))
        core.engine.untagged(quota)
    core.engine.done(tag, "OK", "Quota given")


async def set_quota(core: Core, tag: str, command: SetQuota) -> None:
    _must_exist(core, command.root)
    raise Refused("only the administrator sets quotas", "NOPERM")


def _must_exist(core: Core, root: bytes) -> None:
    if root != _ROOT or core.account.space.quota == UNLIMITED:
        raise Refused("no such quota root", "NONEXISTENT")


async def _quota(core: Core) -> bytes:
    quota = core.account.space.quota
    usage = await core.workers.run(core.account.usage)
    resources = []
    if quota.octets is not None:
        resources.append(b"STORAGE %d %d" % (-(-usage.octets // _UNIT), -(-quota.octets // _UNIT)))
    if quota.messages is not None:
        resources.append(b"MESSAGE %d %d" % (usage.messages, quota.messages))
    return b'QUOTA "%b" (%b)' % (_ROOT, b" ".join(resources))
