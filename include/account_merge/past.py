"""All that was ever done to an account's rows, in order, and what of it counts: what an undo replays."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from account_merge.journal import Journal
from account_merge.merging import Merging
from account_merge.model import Merge
from account_merge.rules import TableRule


@dataclass(frozen=True)
class PastLog:
    """One log of the past.

    :param brings: it is the merge's own log: its entries bring the sources' rows.
    :param seeded: the retired job had merged them before.
    """

    merge: uuid.UUID
    name: str
    brings: bool
    seeded: bool = False


@dataclass(frozen=True)
class Past:
    """All that was ever done to an account's rows, in order, and what of it counts.

    :param account: whose rows are replayed.
    :param logs: each merge's log, and those of undos, which bring no rows themselves.
    :param standing: the merges that count in the end.
    :param elsewhere: standing merges of the same sources into other accounts: what those handed on is not added here.
    :param sources: the source accounts of the standing merges.
    :param merges_into: account -> merges that moved rows to it.
    :param of: the merge, and its settles: the rows that these touched are replayed.
    :param seeded: those of the sources whose rows the retired job had moved before.
    """

    account: str
    logs: Sequence[PastLog]
    standing: frozenset[uuid.UUID]
    elsewhere: frozenset[uuid.UUID] = frozenset()
    sources: frozenset[str] = frozenset()
    merges_into: Mapping[str, frozenset[uuid.UUID]] = field(default_factory=dict)
    of: frozenset[uuid.UUID] = frozenset()
    seeded: frozenset[str] = frozenset()


def settles_of(journal: Journal, merge: Merge) -> list[Merge]:
    """The settles of a merge that stand in the same target."""
    found = (journal.get(i) for i in journal.merges_into(merge.survivor or merge.request.target))
    standing = ("completed", "abandoned", "undoing")
    return [
        m for m in found if m and (m.parent, m.request.origin) == (merge.merge_id, "settle") and m.state in standing
    ]


def past_of(merging: Merging, merge: Merge, rule: TableRule, redo: bool) -> Past:
    """The past of a merge's target in one table: without the merge and its settles, or (`redo`) with it."""
    journal, target = merging.journal, merge.survivor or merge.request.target
    logs, merges = [], {}
    for name in journal.received(target):
        operation, _, text = name.rpartition("/")
        one = uuid.UUID(text)
        merges[one] = journal.need(one)
        log = f"{operation}/{rule.table}" if operation else rule.table
        logs.append(PastLog(one, log, brings=not operation, seeded=merges[one].request.seeded))
    gone = {merge.merge_id, *(settle.merge_id for settle in settles_of(journal, merge))}
    standing = {i for i, m in merges.items() if m.state != "undone"} - gone
    standing |= {merge.merge_id} if redo else set()
    sources = frozenset(s for i in standing for s in merges[i].request.sources)
    gave = {i for source in sources for i in merging.standing(journal.gave(source))}
    into = {account: merging.standing(journal.merges_into(account)) for account in (*sources, target)}
    into[target] |= {merge.merge_id}
    seeded = frozenset(s for i in standing if merges[i].request.seeded for s in merges[i].request.sources)
    elsewhere = frozenset(gave - set(merges))
    return Past(target, logs, frozenset(standing), elsewhere, sources, into, frozenset(gone), seeded)
