"""Marked write times: the journal that wrote a cell can be told from the time of its write. Pure.

A restored journal has forgotten the merges that came after its backup, but their cells stand in the learners' tables. They
are recognised by their times: no merge may add what they have added already.
"""

from __future__ import annotations

import hashlib

#: µs; a stretch of time, in which some moments are marks.
_STRETCH = 2**20
_MARKS = 8  # in a stretch
#: The golden section of a stretch: multiples of it lie far apart. Clients that write several cells at once count on by
#: single microseconds, so they never meet two marks of a stretch.
_APART = 648_055
_PRIME = 2**61 - 1  # of the family of hashes in which two times are marks by chance independently (Carter and Wegman)
#: µs between two writes of one unknown merge, at most, so that chance cannot be both: two tables of it may be that far apart.
NEAR = 60_000_000


class Marks:
    """The marks of one journal. By chance one time in 131,072 is a mark.

    :param secret: 16 bytes that only this journal has.
    """

    def __init__(self, secret: bytes) -> None:
        wide = hashlib.blake2b(secret, digest_size=16).digest()
        self._factor = 1 + int.from_bytes(wide[:8], "big") % (_PRIME - 1)
        self._offset = int.from_bytes(wide[8:], "big") % _PRIME
        self._back = pow(_APART, -1, _STRETCH)
        self._newest = 0, list[int]()  # a page of rows has one clock

    def marked(self, time: int) -> bool:
        """Whether a write time (µs) is a mark."""
        stretch, place = divmod(time, _STRETCH)
        return (place - self._first(stretch)) * self._back % _STRETCH < _MARKS

    def below(self, time: int, rank: int = 0) -> int:
        """Return the highest mark that is not above a time (µs), or one of the next lower; at most a second below.

        :param rank: 0 for the highest. A later time never has a lower mark of the same rank.
        """
        if self._newest[0] != time:
            stretch = time // _STRETCH
            self._newest = time, sorted(m for one in (stretch, stretch - 1) for m in self._of(one) if m <= time)
        return self._newest[1][-1 - rank]

    def _first(self, stretch: int) -> int:
        return (self._factor * stretch + self._offset) % _PRIME % _STRETCH

    def _of(self, stretch: int) -> list[int]:
        first = self._first(stretch)
        return [stretch * _STRETCH + (first + number * _APART) % _STRETCH for number in range(_MARKS)]
