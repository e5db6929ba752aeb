"""History: all that was ever done to an account's rows, in order, and the merges that count; an undo replays it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from account_merge.choices import TARGET
from account_merge.engine.known import Known
from account_merge.engine.skipped import SkippedScopes
from account_merge.engine.view import View
from account_merge.journal.log_ends import LogRow
from account_merge.model import Merge
from account_merge.planning.seeding import Seeding
from account_merge.rules import TABLES, TableRule
from account_merge.states import Origin, State


@dataclass(frozen=True)
class HistoryLog:
    """One log of the past.

    :param brings: it is the merge's own log: its entries bring the sources' rows.
    :param rows: all its entries, where they were read.
    """

    merge: uuid.UUID
    name: str
    brings: bool
    rows: Sequence[LogRow] | None = None


@dataclass(frozen=True)
class AccountHistory:
    """All that was ever done to an account's rows, in order, and the merges that count.

    :param account: whose rows are replayed.
    :param logs: each merge's log, and those of undos, which bring no rows themselves.
    :param effective: the merges that count in the end.
    :param elsewhere: effective merges of the same sources into other accounts, and those into this one whose images have
        expired: totals that they handed on are not added here.
    :param withdrawn: undone merges into other accounts that had taken over what the retired job had moved.
    :param sources: the source accounts of the effective merges.
    :param merges_into: account -> merges that moved rows to it.
    :param of: the merge, and its settles: the rows that these touched are replayed.
    :param views: other tables' rows as each of the merges may see them, so that its rows come as it brought them.
    """

    account: str
    logs: Sequence[HistoryLog]
    effective: frozenset[uuid.UUID]
    elsewhere: frozenset[uuid.UUID] = frozenset()
    withdrawn: frozenset[uuid.UUID] = frozenset()
    sources: frozenset[str] = frozenset()
    merges_into: Mapping[str, frozenset[uuid.UUID]] = field(default_factory=dict)
    of: frozenset[uuid.UUID] = frozenset()
    views: Mapping[uuid.UUID, View] = field(default_factory=dict)

    @property
    def accounts(self) -> tuple[str, ...]:
        """Every account that a step names, sorted, each once: the same rows are found whichever merges count."""
        return tuple(sorted({self.account, *(s for view in self.views.values() for s in view.sources)}))


@dataclass(frozen=True)
class Provenance:
    """The merges, undone ones left out, whose logs tell where the accounts' rows come from.

    :param merges_from: merges that a source account of this merge was a source of.
    :param lives_here: those of them whose rows live in the account that this merge writes to.
    :param without_images: those of them whose images have expired.
    :param left_in: accounts that they wrote to and whose own rows of this table were not merged on.
    :param withdrawn: undone ones that had taken over what the retired job had moved.
    :param merges_into: account of this merge -> merges that moved rows to it, this one among the target's.
    :param seeding: the sources that the retired job had merged into this target; None when there are none.
    :param past: all that was done to the target's rows; None where no source of this merge was merged into it before.
    """

    merges_from: frozenset[uuid.UUID] = frozenset()
    lives_here: frozenset[uuid.UUID] = frozenset()
    without_images: frozenset[uuid.UUID] = frozenset()
    left_in: frozenset[str] = frozenset()
    withdrawn: frozenset[uuid.UUID] = frozenset()
    merges_into: Mapping[str, frozenset[uuid.UUID]] = field(default_factory=dict)
    seeding: Seeding | None = None
    past: AccountHistory | None = None


def provenance_of(known: Known, skipped: SkippedScopes, merge: Merge, rule: TableRule) -> Provenance:
    """Return the provenance for the work on one table of a merge."""
    sources, target = merge.request.sources, merge.target
    into = {account: known.effective(account) for account in (*sources, target)}
    into[target] |= {merge.merge_id}
    gave = known.gave(sources)
    standing = {i: m for i, m in gave.items() if m.effective_state != State.UNDONE and i != merge.merge_id}
    here = frozenset(i for i, m in standing.items() if _lives_in(known, m, target))
    return Provenance(
        frozenset(standing) | (frozenset({merge.merge_id}) & frozenset(gave)),
        here,
        frozenset(i for i in here if standing[i].expiry and rule.table in (standing[i].request.tables or TABLES)),
        frozenset(
            m.target
            for i, m in standing.items()
            if i in here and _brings(m, rule.table) and not _reaches(known, m, target, rule.table)
        ),
        frozenset(i for i, m in gave.items() if m.effective_state == State.UNDONE and m.request.seeded),
        into,
        _seeding(known, merge, rule),
        _past(skipped, known, merge, rule, redo=False) if frozenset(standing) & into[target] else None,
    )


def _lives_in(known: Known, merge: Merge, target: str) -> bool:
    """Whether the account that a merge wrote to is `target`, or was merged into it."""
    wrote_to = merge.target
    return wrote_to == target or known.survivor(wrote_to) == target


def _reaches(known: Known, merge: Merge, target: str, table: str) -> bool:
    """Whether the rows that a merge wrote to one table came on to `target`: merges may leave tables out or keep the target's."""
    todo, seen = [merge], set[uuid.UUID]()
    while todo:
        one = todo.pop()
        seen.add(one.merge_id)
        wrote_to = one.target
        if wrote_to == target:
            return True
        onward = (
            m
            for m in known.gave((wrote_to,)).values()
            if m.effective_state == State.COMPLETED and m.merge_id not in seen
        )
        todo += [m for m in onward if _brings(m, table)]
    return False


def _brings(merge: Merge, table: str) -> bool:
    """Whether a merge brings its sources' rows of a table."""
    return table in (merge.request.tables or TABLES) and merge.request.choices.tables.get(table) != TARGET


def _seeding(known: Known, merge: Merge, rule: TableRule) -> Seeding | None:
    """Return which of a merge's sources the retired job had merged into its target; None when there are none.

    The merge itself may say it, or an earlier one of the same accounts, also one that was undone: the retired job's share
    is in the target whatever becomes of our merges.
    """
    request, target = merge.request, merge.target
    since = {source: (request.dated or 0) * 1000 for source in request.sources if request.seeded}
    counted = set()
    for source in request.sources:
        for one in known.gave((source,)).values():
            before = merge.created_at is None or (one.created_at is not None and one.created_at < merge.created_at)
            if one.merge_id == merge.merge_id or not one.request.seeded or not before:
                continue
            if not _lives_in(known, one, target):
                continue
            since.setdefault(source, (one.request.dated or 0) * 1000)
            if one.sync_sent is not None and rule.table in (one.request.tables or TABLES):
                counted.add(source)
    return Seeding(since, frozenset(counted)) if since else None


def settles_of(known: Known, merge: Merge) -> list[Merge]:
    """Return the effective settles of a merge into the same target."""
    standing = (State.COMPLETED, State.ABANDONED, State.UNDOING)
    found = known.merges_into(merge.target)
    return [
        m
        for m in found
        if (m.parent, m.request.origin) == (merge.merge_id, Origin.SETTLE) and m.effective_state in standing
    ]


def unexpired(known: Known, target: str) -> list[tuple[str, Merge]]:
    """Return (operation, merge) of all that the account received behind the last expired one, in order.

    :raises NeedsAttention: the journal lacks one of them.
    """
    names = [name.rpartition("/") for name in known.received(target)]
    found = [(operation, known.need(uuid.UUID(text))) for operation, _, text in names]
    return found[max((i + 1 for i, (_, m) in enumerate(found) if m.expiry), default=0) :]


def account_history_of(
    known: Known, skipped: SkippedScopes, merge: Merge, rule: TableRule, redo: bool
) -> AccountHistory:
    """Return the past of a merge's target in one table: without the merge and its settles, or (`redo`) with it.

    An expired merge, and all that the target received before it, belongs to the rows as they were before.
    """
    return _past(skipped, known, merge, rule, redo)


def _past(skipped: SkippedScopes, known: Known, merge: Merge, rule: TableRule, redo: bool) -> AccountHistory:
    target = merge.target
    logs, merges = [], {}
    for operation, one in unexpired(known, target):
        log = f"{operation}/{rule.table}" if operation else rule.table
        merges[one.merge_id] = one
        own = one.merge_id == known.about.merge_id
        logs.append(HistoryLog(one.merge_id, log, not operation, known.closed.get(log) if own else None))
    gone = {merge.merge_id, *(settle.merge_id for settle in settles_of(known, merge))}
    standing = {i for i, m in merges.items() if m.effective_state != State.UNDONE} - gone
    standing |= {merge.merge_id} if redo else set()
    sources = frozenset(s for i in standing for s in merges[i].request.sources)
    gave = known.gave(sources)
    into = {account: known.effective(account) for account in (*sources, target)}
    into[target] |= {merge.merge_id}
    elsewhere = frozenset(i for i, m in gave.items() if m.effective_state != State.UNDONE and i not in merges)
    withdrawn = frozenset(
        i for i, m in gave.items() if m.effective_state == State.UNDONE and m.request.seeded and i not in merges
    )
    views = {i: _replayed(skipped, known, m, rule) for i, m in merges.items()}
    return AccountHistory(
        target, logs, frozenset(standing), elsewhere, withdrawn, sources, into, frozenset(gone), views
    )  # fmt: skip


def _replayed(skipped: SkippedScopes, known: Known, merge: Merge, rule: TableRule) -> View:
    """Return the view that a merge of the past had of other tables' rows."""
    if not rule.lookups:
        return View(merge.request.sources, merge.target)
    view = view_of(skipped, merge, rule, _seeding(known, merge, rule))
    return replace(view, merge=merge.merge_id, logged=frozenset(merge.request.tables or TABLES))


def view_of(skipped: SkippedScopes, merge: Merge, rule: TableRule, seeding: Seeding | None) -> View:
    """Return the view that a merge has of other tables' rows when it merges one table, with the scopes that stay."""
    seeded = frozenset(seeding.since if seeding else ())
    target, sources = merge.target, tuple(sorted(merge.request.sources))
    return View(sources, target, skipped.kept(merge, rule), skipped.from_other_source(merge, rule), seeded)
