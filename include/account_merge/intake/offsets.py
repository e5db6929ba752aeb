"""Where claiming goes on: at the group's offset if that offset is ours and of this very topic, else at what is there.

Each commit carries a note: the journal that claimed, and the topic's own id. Another journal's note means that two
installations would move the same totals. Another topic's id, or an offset beyond the end, means that the topic was made
anew or restored: then all that is there is claimed, since a merge that is known already is not opened twice.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from account_merge.errors import NeedsAttention
from account_merge.journal import Journal
from account_merge.journal.scans import Note
from account_merge.settings import Settings
from account_merge.sunbird.kafka import Standing, Topics

log = logging.getLogger(__name__)

#: How our note begins, beside an offset in Kafka; the retired job wrote none.
_OURS = "account-merge"


class Offsets:
    """The offsets of the merge topic, as the group has them and as they count."""

    def __init__(self, journal: Journal, topics: Topics, settings: Settings) -> None:
        self._journal, self._topics, self._settings = journal, topics, settings
        self._topic_id = ""
        self._anew = Note(journal, f"anew/{settings.consumer_group}/{settings.merge_topic}")
        self._claimed = Note(journal, f"claimed/{settings.consumer_group}/{settings.merge_topic}")

    def lag(self) -> int:
        """Count the messages that are not claimed; consumes nothing.

        An offset beyond the end is remembered: the topic may have grown past it before anybody claims.
        """
        standing = self._topics.standing()
        beyond = [partition for partition, one in standing.items() if one.beyond]
        if beyond:
            known = set(self._known_anew())
            if not known.issuperset(beyond):
                self._anew.put({"partitions": sorted(known.union(beyond))})
            log.warning(
                "The offsets of partitions %s lie beyond the topic's end: it was made anew or restored.", beyond
            )
        forgotten = self._forgotten(standing)
        return sum(one.high - forgotten[p] if p in forgotten else one.lag for p, one in standing.items())

    def _known_anew(self) -> list[int]:
        found: list[int] = self._anew.get().get("partitions", [])
        return found

    def _forgotten(self, standing: Mapping[int, Standing]) -> dict[int, int]:
        """Return partition -> where the journal has claimed up to, of those where a commit of its own lies beyond that."""
        ours = {p: one.committed for p, one in standing.items()
                if one.committed is not None and not one.beyond and self._noted(one)[0] == str(self._journal.journal_id)}  # fmt: skip
        claimed = self._claimed.get() if ours else {}
        known = {p: max(standing[p].low, claimed.get(str(p), 0)) for p in ours}
        return {p: known[p] for p, committed in ours.items() if known[p] < committed}

    def lost(self) -> dict[int, int]:
        """Return partition -> how many messages the topic deleted before the journal claimed them."""
        standing, claimed = self._topics.standing(), self._claimed.get()
        begun = {p: min(one.committed, claimed.get(str(p), one.committed)) for p, one in standing.items()
                 if one.committed is not None and not one.beyond}  # fmt: skip
        return {p: standing[p].low - offset for p, offset in begun.items() if offset < standing[p].low}

    def claimed(self, positions: Mapping[tuple[str, int], int]) -> None:
        """Note how far the journal has claimed, in the transaction that claims."""
        if positions:
            known = self._claimed.get()
            self._claimed.put(known | {str(partition): offset for (_, partition), offset in positions.items()})

    def starts(self) -> tuple[dict[int, int], list[int]]:
        """Return partition -> offset to claim from, and the partitions that are claimed anew from their beginning.

        :raises NeedsAttention: another journal claims with this group.
        """
        self._topic_id = self._topics.topic_id()
        standing, anew = self._topics.standing(), self._known_anew()
        again = [p for p, one in standing.items() if one.beyond or p in anew or self._other_topic(one)]
        if again:
            log.warning("Partitions %s are claimed from their beginning: the topic was made anew or restored.", again)
        if forgotten := self._forgotten(standing):
            log.warning(
                "The journal was restored from a backup: messages are claimed again from offsets %s on.", forgotten
            )
        committed = {p: one.low if p in again or one.committed is None else max(one.low, one.committed)
                     for p, one in standing.items()}  # fmt: skip
        return committed | {p: offset for p, offset in forgotten.items() if p not in again}, again

    @staticmethod
    def _noted(one: Standing) -> tuple[str, str]:
        """Return the journal that committed an offset, and the topic's id then; both empty when it was none of ours."""
        word, journal_id, topic_id, *_ = [*one.note.split(), "", "", ""]
        return (journal_id, topic_id) if word == _OURS else ("", "")

    def _other_topic(self, one: Standing) -> bool:
        journal_id, known = self._noted(one)
        if not journal_id:
            return False
        if journal_id != str(self._journal.journal_id):
            raise NeedsAttention(
                "OTHER_JOURNAL",
                f"journal {journal_id} claims with consumer group {self._settings.consumer_group}; this one is "
                f"{self._journal.journal_id}. No event was claimed",
                "Use one installation only, or give this one a group of its own (ACCOUNT_MERGE_CONSUMER_GROUP) and never "
                "merge with both. If the other journal is gone for good, delete the group's offsets.",
            )
        return bool(self._topic_id and known and known != self._topic_id)

    def commit(self, claimed: Mapping[tuple[str, int], int], again: list[int]) -> None:
        """Commit the offsets to read next, with our note; behind `starts`.

        :param again: partitions whose committed offset holds nothing back.
        """
        note = f"{_OURS} {self._journal.journal_id} {self._topic_id}".strip()
        self._topics.commit(claimed, note, again)
        if again:
            self._anew.put({"partitions": [p for p in self._known_anew() if p not in again]})
