"""One part of a job array: a share of the work that any machine can do, independent of the others."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

from tio2nn.errors import UsageError
from tio2nn.wording import ranges

_Item = TypeVar("_Item")

_WRITTEN = re.compile(r"([0-9]{1,6})/([0-9]{1,6})")


class JobPart(NamedTuple):
    """Part `number`, from 1, of `total` parts; "3/20" on the command line.

    Which work belongs to a part follows from these two numbers alone.

    Attributes:
        number: from 1 to `total`.
        total: number of parts.
    """

    number: int
    total: int

    @classmethod
    def parse(cls, text: str, option: str = "--part") -> JobPart:
        """The part that a user writes as "3/20" with an option.

        Raises:
            UsageError: anything else, or a number that is none of the parts.
        """
        match = _WRITTEN.fullmatch(text)
        part = None if match is None else cls(int(match[1]), int(match[2]))
        if part is None or not 1 <= part.number <= part.total:
            raise UsageError(f"{option}: expected K/N with K from 1 to N, such as 3/20, got {text}")
        return part

    @classmethod
    def of(cls, part: tuple[int, int] | None) -> JobPart | None:
        """The part that a caller names by its two numbers; None for all of the work.

        Raises:
            TypeError: no two whole numbers.
            ValueError: a number that is none of the parts.
        """
        return None if part is None else cls.given("part", part)

    @classmethod
    def given(cls, name: str, part: tuple[int, int]) -> JobPart:
        """The part that a caller names by its two numbers, as an argument of this name; errors as for `of`."""
        are_two = isinstance(part, tuple) and len(part) == 2
        if not are_two or any(type(number) is not int for number in part):
            raise TypeError(f"{name}: expected two whole numbers such as (3, 20), got {part!r}")
        found = cls(*part)
        if not 1 <= found.number <= found.total:
            raise ValueError(f"{name}: expected (K, N) with K from 1 to N, got {part!r}")
        return found

    def __str__(self) -> str:
        return f"{self.number}/{self.total}"

    def share(self, items: Sequence[_Item]) -> Sequence[_Item]:
        """Every `total`-th item: equal shares of items that grow or shrink along their order."""
        return items[self.number - 1 :: self.total]

    def span(self, n: int) -> range:
        """Consecutive places out of `n`, so that the spans of all parts in their order are all places."""
        return range((self.number - 1) * n // self.total, self.number * n // self.total)


def sharers(places: Iterable[int], total: int) -> list[int]:
    """Numbers of the parts whose `share` has items at these places, ascending."""
    return sorted({place % total + 1 for place in places})


def told_undone(unfinished: Sequence[int], outdated: Sequence[int], total: int, what_differed: str) -> str:
    """Which parts have left work, and why, for messages; "" if none has.

    Args:
        unfinished: parts that did not finish.
        outdated: parts that finished with something else.
        total: number of parts.
        what_differed: what they had, such as "other parameters".
    """
    told = []
    if unfinished:
        told.append(f"{named(unfinished, total)} did not finish")
    if outdated:
        told.append(f"{named(outdated, total)} had {what_differed}")
    return "; ".join(told)


def named(numbers: Sequence[int], total: int) -> str:
    """Parts in a message: "part 3 of 20", "parts 1 to 4 and 7 of 20"."""
    return f"part{'s' if len(numbers) > 1 else ''} {ranges(numbers)} of {total}"
