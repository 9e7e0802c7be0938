from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tio2nn.errors import UsageError
from tio2nn.job_part import JobPart, named, sharers


def test_a_part_is_written_as_it_is_read() -> None:
    assert JobPart.parse("3/20") == JobPart(3, 20) == JobPart.of((3, 20))
    assert str(JobPart(3, 20)) == "3/20"
    assert JobPart.of(None) is None


@pytest.mark.parametrize("text", ["٣/٤", "1/9999999", "1 / 2", "+1/2", "1/2\n3", " 1/3", "1/3\n"])
def test_what_is_no_part_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--part: expected K/N"):
        JobPart.parse(text)


@given(st.integers(0, 50), st.integers(1, 20))
def test_shares_and_spans_are_all_of_the_work_once(n: int, total: int) -> None:
    parts = [JobPart(number, total) for number in range(1, total + 1)]
    assert [place for part in parts for place in part.span(n)] == list(range(n))
    shares = [part.share(range(n)) for part in parts]
    assert sorted(place for share in shares for place in share) == list(range(n))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    for part, share in zip(parts, shares, strict=True):
        assert sharers(share, total) == ([part.number] if share else [])


def test_parts_in_a_message() -> None:
    assert named([3], 20) == "part 3 of 20"
    assert named([1, 2, 3, 5, 6, 9], 20) == "parts 1 to 3, 5, 6 and 9 of 20"
