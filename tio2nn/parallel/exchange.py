"""Sums over processes that compute shares of the same batches, on one machine or on several.

Only numbers travel, of a length that the receiver knows: nothing is unpickled. They are not encrypted.

Sums go through rank 1, which adds in the order of the ranks, so all ranks get the same bits in every run. The gradients
of a batch are 10⁴ to 10⁵ numbers, and a few processes share it; what rank 1 sends and receives grows with their number.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tio2nn.errors import InputError
from tio2nn.job_part import JobPart
from tio2nn.parallel.rendezvous import HANDSHAKE, host, join, receive, receive_into, told_ranks

Scalar = TypeVar("Scalar", bound=np.generic)

WAIT_SECONDS = 300.0
"""For the other ranks to start: a queue may start the jobs of an array one after the other."""

_STATE = struct.Struct("!I")  # 0: numbers follow; else the rank that is gone
_AGAIN = "start all ranks again; they go on from the last checkpoint"


class Exchange:
    """One rank's connections to the others; make it with `exchange`.

    Attributes:
        rank: which one this is, of how many.
        seconds: spent in sending, in receiving, and in waiting for others.
        error: what ended it, if anything has.
    """

    def __init__(self, rank: JobPart, others: Sequence[socket.socket]) -> None:
        # of rank 1 all others in their order, of another one rank 1 alone
        self.rank, self._others = rank, others
        self.seconds = 0.0
        self.error: InputError | None = None

    @property
    def is_first(self) -> bool:
        return self.rank.number == 1

    def sum(self, own: NDArray[Scalar]) -> NDArray[Scalar]:
        """The sum over all ranks of arrays of the same shape and kind, with the same bits everywhere.

        Raises:
            InputError: a rank is gone.
        """
        total: NDArray[Scalar] = np.array(own, order="C")
        with self._timed():
            if self.is_first:
                received = np.empty_like(total)
                for number in range(2, self.rank.total + 1):
                    self._receive(number, received)
                    np.add(total, received, out=total)
                self._send_to_all(total)
            else:
                self._send(1, total)
                self._receive(1, total)
        return total

    def from_first(self, own: NDArray[Scalar]) -> NDArray[Scalar]:
        """The array of rank 1, whose shape and kind all know.

        Raises:
            InputError: a rank is gone.
        """
        given: NDArray[Scalar] = np.array(own, order="C")
        with self._timed():
            if self.is_first:
                self._send_to_all(given)
            else:
                self._receive(1, given)
        return given

    @contextmanager
    def errors_in_the_open(self) -> Iterator[None]:
        """A rank that is gone is reported as it is, and not as a graph wraps it."""
        try:
            yield
        except Exception:
            if self.error is not None:
                raise self.error from None
            raise

    def close(self) -> None:
        """End all connections, which the others notice at once."""
        for other in self._others:
            other.close()

    @contextmanager
    def _timed(self) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - begin

    def _send_to_all(self, array: NDArray[Any]) -> None:
        for number in range(2, self.rank.total + 1):
            self._send(number, array)

    def _send(self, number: int, array: NDArray[Any]) -> None:
        with self._noticing(number) as other:
            other.sendall(_STATE.pack(0))
            other.sendall(array.data.cast("B") if array.size else b"")

    def _receive(self, number: int, array: NDArray[Any]) -> None:
        with self._noticing(number) as other:
            (gone,) = _STATE.unpack(receive(other, _STATE.size))
            if gone:
                self._end(_gone(JobPart(gone, self.rank.total), "has ended"))
            if array.size:
                receive_into(other, array.data.cast("B"))

    @contextmanager
    def _noticing(self, number: int) -> Iterator[socket.socket]:
        """The connection to a rank, in a block that ends in one line if it breaks."""
        other = self._others[number - 2 if self.is_first else 0]
        try:
            yield other
        except TimeoutError:
            self._lose(number, f"has said nothing for {other.gettimeout():g} s")
        except OSError:
            self._lose(self._named_by(other) or number, "has ended")

    def _named_by(self, first: socket.socket) -> int | None:
        """The rank that rank 1 has named before it ended; what it has sent can still be read."""
        if not self.is_first:
            with suppress(OSError):
                first.settimeout(HANDSHAKE)
                (gone,) = _STATE.unpack(receive(first, _STATE.size))
                if 1 < gone <= self.rank.total:
                    return int(gone)
        return None

    def _lose(self, number: int, what: str) -> None:
        """Tell the others which rank is gone, and end."""
        if self.is_first:
            for place, other in enumerate(self._others, start=2):
                if place != number:
                    with suppress(OSError):
                        other.settimeout(HANDSHAKE)
                        other.sendall(_STATE.pack(number))
        self._end(_gone(JobPart(number, self.rank.total), what))

    def _end(self, error: InputError) -> None:
        self.error = error
        self.close()
        raise error


def _gone(rank: JobPart, what: str) -> InputError:
    return InputError(f"{told_ranks([rank.number], rank.total)} {what}; {_AGAIN}")


@contextmanager
def exchange(
    file: Path,
    rank: JobPart,
    work: str,
    wait: float = WAIT_SECONDS,
    on_wait: Callable[[str], None] | None = None,
) -> Iterator[Exchange]:
    """The connections of one rank, once all ranks are there.

    Args:
        file: in which rank 1 says where it listens; it is removed when all ranks are there.
        rank: which one this is.
        work: must be the same on all ranks, such as a fingerprint of the fit.
        wait: seconds for the other ranks to start.
        on_wait: called once with a sentence, if they are not there yet.

    Raises:
        InputError: another rank does not start in time, or does other work.
    """
    others = (host if rank.number == 1 else join)(file, rank, work, wait, on_wait)
    found = Exchange(rank, others)
    try:
        yield found
    finally:
        found.close()
