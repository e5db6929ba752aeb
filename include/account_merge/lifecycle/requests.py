"""A merge request: checked before any account is looked at, and made of an event."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC

from account_merge.choices import CHOICES, Choices
from account_merge.choices import MOST as MOST_CHOSEN
from account_merge.errors import InvalidRequest
from account_merge.model import MergeRequest
from account_merge.rules import TABLES
from account_merge.rules.moments import CANNOT_BE, believable, instant
from account_merge.settings import Settings
from account_merge.states import Origin
from account_merge.sunbird.events import MergeEvent, account_id_problem

MAX_SOURCES = 20


def check_request(request: MergeRequest, settings: Settings) -> MergeRequest:
    """Return the request with each source once.

    :raises InvalidRequest: the message says what is wrong, and the remedy.
    """
    sources = tuple(dict.fromkeys(request.sources))
    for account in (*sources, request.target):
        problem = account_id_problem(account, settings.max_id_length)
        if problem:
            raise InvalidRequest(problem.code, f"an account id of the request: {problem.what}", problem.remedy)
    if not sources or len(sources) > MAX_SOURCES:
        raise InvalidRequest(
            "BAD_SOURCES",
            f"a merge has 1 to {MAX_SOURCES} source accounts, not {len(sources)}",
            "Split it into several merges.",
        )
    if request.target in sources:
        raise InvalidRequest(
            "SAME_ACCOUNT", f"account {request.target} cannot be merged into itself", "Name the other account."
        )
    unknown = sorted(set(request.tables) - set(TABLES))
    if unknown:
        raise InvalidRequest("UNKNOWN_TABLE", f"no rule for {', '.join(unknown)}", f"Choose from {', '.join(TABLES)}.")
    if request.on_conflict not in ("combine", "skip") or request.source_rows not in ("keep", "deactivate"):
        raise InvalidRequest(
            "BAD_OPTION", "on_conflict is combine or skip, source_rows is keep or deactivate", "Correct the option."
        )
    _check_choices(request.choices)
    return replace(request, sources=sources)


def _check_choices(choices: Choices) -> None:
    named = {*choices.tables, *(json.loads(name)[0] for name in choices.rows if name.startswith("["))}
    if unknown := sorted(named - set(TABLES)):
        raise InvalidRequest("UNKNOWN_TABLE", f"no rule for {', '.join(unknown)}", f"Choose from {', '.join(TABLES)}.")
    if {*choices.tables.values(), *choices.rows.values()} - set(CHOICES):
        raise InvalidRequest("BAD_OPTION", f"a choice is one of {', '.join(CHOICES)}", "Correct the choice.")
    if len(choices.rows) > MOST_CHOSEN:
        raise InvalidRequest(
            "TOO_MANY_CHOICES",
            f"a merge has choices for at most {MOST_CHOSEN} rows, not {len(choices.rows)}",
            "Choose for the whole table, or merge some tables by themselves.",
        )


def request_of(
    event: MergeEvent, raw: bytes, settings: Settings, origin: Origin = Origin.EVENT, stamp_ms: int = 0
) -> MergeRequest:
    """Return the request of an event. The retired job did the merges that are dated before the cut-over.

    The unit of an event's time may be seconds, milliseconds or microseconds. An impossible time is not believed: the time of
    the message counts instead, and the request says so.

    :param stamp_ms: the message's own time, ms since the epoch, for an event that has none.
    """
    own, stamp = time_ms(event.ets), time_ms(stamp_ms)
    dated = stamp if own is None else own
    doubt = ""
    if event.ets is not None and own is None:
        instead = "the message's own time counts" if dated else "it counts as undated"
        doubt = f"the event's ets is {CANNOT_BE}: {instead}"
    return MergeRequest(
        event.sources, event.target, origin=origin, mid=event.mid, raw=raw, tenant=event.tenant,
        dated=dated, seeded=before_cutover(dated, settings), doubt=doubt,
    )  # fmt: skip


def time_ms(value: float | None) -> int | None:
    """Return a time of an event or a message as ms since the epoch, whatever its unit; None when it is impossible."""
    moment = instant(value)
    return round(moment.replace(tzinfo=UTC).timestamp() * 1000) if moment is not None and believable(moment) else None


def before_cutover(dated: int | None, settings: Settings) -> bool:
    """Whether the retired job did a merge that was asked for at that time (ms since the epoch)."""
    return dated is not None and settings.cutover is not None and dated < settings.cutover.timestamp() * 1000
