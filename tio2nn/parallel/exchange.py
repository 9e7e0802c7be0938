"""Sums over processes that compute shares of the same batches, on one machine or on several.

Rank 1 listens and leaves its address and a secret in a file that only its user can read. The others read the file and
connect. Both sides then prove, by HMAC-SHA256 of numbers that the other one drew, that they know the secret. From there
on only numbers travel, of a length that the receiver knows: nothing is unpickled. They are not encrypted.

Sums go through rank 1, which adds in the order of the ranks, so all ranks get the same bits in every run. The gradients
of a batch are 10⁴ to 10⁵ numbers, and a few processes share it; what rank 1 sends and receives grows with their number.
"""

from __future__ import annotations

import hmac
import json
import os
import secrets
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from tio2nn.errors import InputError
from tio2nn.job_part import JobPart
from tio2nn.wording import ranges

Scalar = TypeVar("Scalar", bound=np.generic)

WAIT_SECONDS = 300.0
"""For the other ranks to start: a queue may start the jobs of an array one after the other."""

_PATIENCE = 600.0  # s, for one message: a machine that hangs looks like one that computes
_UNREACHABLE = 60.0  # s, after which a machine that does not even acknowledge is given up
_HANDSHAKE = 5.0  # s
_POLL = 0.2  # s
_SECRET = 32  # bytes
_HELLO = struct.Struct("!II32s32s")  # rank, number of ranks, digest of the work, number drawn
_ANSWER = struct.Struct("!II")  # one of the next line, number of ranks
_STATE = struct.Struct("!I")  # 0: numbers follow; else the rank that is gone
_ACCEPTED, _OTHER_NUMBER, _OTHER_WORK, _TAKEN = range(4)
_AGAIN = "start all ranks again; they go on from the last checkpoint"


class _Place(NamedTuple):
    """Where rank 1 listens, as the file says."""

    host: str
    addresses: tuple[str, ...]
    port: int
    secret: bytes

    @classmethod
    def read(cls, file: Path) -> _Place | None:
        """None without a complete file."""
        # never through a link, nor from a pipe
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        try:
            with os.fdopen(os.open(file, flags), "rb") as handle:
                about = json.loads(handle.read(4096))
            addresses = tuple(map(str, about["addresses"]))
            return cls(str(about["host"]), addresses, int(about["port"]), bytes.fromhex(about["secret"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, file: Path) -> None:
        """Replace the file at once; only its user can read it."""
        beside = file.with_name(f".{file.name}.{secrets.token_hex(4)}.part")
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as handle:
            json.dump({**self._asdict(), "secret": self.secret.hex()}, handle)
        beside.replace(file)

    def candidates(self) -> Iterator[tuple[str, int]]:
        """Addresses to try, the likeliest first."""
        hosts = ["127.0.0.1"] if self.host == socket.gethostname() else []
        yield from ((host, self.port) for host in dict.fromkeys([*hosts, self.host, *self.addresses]))


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
            (gone,) = _STATE.unpack(_read(other, _STATE.size))
            if gone:
                self._end(_gone(JobPart(gone, self.rank.total), "has ended"))
            if array.size:
                _read_into(other, array.data.cast("B"))

    @contextmanager
    def _noticing(self, number: int) -> Iterator[socket.socket]:
        """The connection to a rank, in a block that ends in one line if it breaks."""
        try:
            yield self._others[number - 2 if self.is_first else 0]
        except TimeoutError:
            self._lose(number, f"has said nothing for {_PATIENCE:g} s")
        except OSError:
            self._lose(number, "has ended")

    def _lose(self, number: int, what: str) -> None:
        """Tell the others which rank is gone, and end."""
        if self.is_first:
            for place, other in enumerate(self._others, start=2):
                if place != number:
                    with suppress(OSError):
                        other.settimeout(_HANDSHAKE)
                        other.sendall(_STATE.pack(number))
        self._end(_gone(JobPart(number, self.rank.total), what))

    def _end(self, error: InputError) -> None:
        self.error = error
        self.close()
        raise error


def _gone(rank: JobPart, what: str) -> InputError:
    return InputError(f"{_named([rank.number], rank.total)} {what}; {_AGAIN}")


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
        work: what all ranks must agree on, such as a fingerprint.
        wait: seconds for the other ranks to start.
        on_wait: called once with a sentence, if they are not there yet.

    Raises:
        InputError: another rank does not start in time, or does other work.
    """
    others = (_host if rank.number == 1 else _join)(file, rank, work, wait, on_wait)
    found = Exchange(rank, others)
    try:
        yield found
    finally:
        found.close()


def _host(
    file: Path, rank: JobPart, work: str, wait: float, on_wait: Callable[[str], None] | None
) -> list[socket.socket]:
    """The connections of rank 1, in the order of the ranks."""
    found: dict[int, socket.socket] = {}
    until = time.monotonic() + wait
    listener = socket.create_server(("", 0), backlog=rank.total)
    try:
        secret = secrets.token_bytes(_SECRET)
        host = socket.gethostname()
        _Place(host, _addresses(host), listener.getsockname()[1], secret).write(file)
        if rank.total > 1 and on_wait is not None:
            on_wait(f"waiting for {_named(range(2, rank.total + 1), rank.total)}")
        while len(found) < rank.total - 1:
            listener.settimeout(max(0.001, until - time.monotonic()))
            try:
                other, _ = listener.accept()
            except TimeoutError:
                missing = [k for k in range(2, rank.total + 1) if k not in found]
                raise InputError(
                    f"{_named(missing, rank.total)} did not start within {wait:g} s; "
                    "start all ranks at about the same time, or give --wait"
                ) from None
            number = None
            with suppress(OSError, ValueError):  # a stranger
                number = _welcome(other, rank.total, secret, work, found)
            if number is None:
                other.close()
            else:
                found[number] = _set_up(other)
    except BaseException:
        for other in found.values():
            other.close()
        raise
    finally:
        listener.close()
        file.unlink(missing_ok=True)
    return [found[number] for number in sorted(found)]


def _welcome(
    other: socket.socket, total: int, secret: bytes, work: str, found: dict[int, socket.socket]
) -> int | None:
    """The number of the rank that has connected; None for a stranger, or one that does not belong here."""
    other.settimeout(_HANDSHAKE)
    drawn = secrets.token_bytes(_SECRET)
    other.sendall(drawn)
    hello = _read(other, _HELLO.size)
    if not hmac.compare_digest(_read(other, _SECRET), _proof(secret, b"rank", drawn + hello)):
        return None
    number, its_total, its_work, its_drawn = _HELLO.unpack(hello)
    answer = _ACCEPTED
    if its_total != total or not 2 <= number <= total:
        answer = _OTHER_NUMBER
    elif its_work != _digest(work):
        answer = _OTHER_WORK
    elif number in found:
        answer = _TAKEN
    about = _ANSWER.pack(answer, total)
    other.sendall(about + _proof(secret, b"first", its_drawn + about))
    return number if answer == _ACCEPTED else None


def _join(
    file: Path, rank: JobPart, work: str, wait: float, on_wait: Callable[[str], None] | None
) -> list[socket.socket]:
    """The connection to rank 1."""
    until = time.monotonic() + wait
    while True:
        # one that was killed leaves its file; then nobody answers
        place = _Place.read(file)
        for address in () if place is None else place.candidates():
            assert place is not None, "it has addresses"
            with suppress(OSError, ValueError):
                return [_set_up(_introduced(address, place.secret, rank, work))]
        if on_wait is not None:
            on_wait(f"waiting for {_named([1], rank.total)}")
            on_wait = None
        if time.monotonic() > until:
            raise InputError(
                f"{_named([1], rank.total)} did not start within {wait:g} s, or cannot be reached; "
                "start all ranks at about the same time, or give --wait"
            )
        time.sleep(_POLL)


def _introduced(address: tuple[str, int], secret: bytes, rank: JobPart, work: str) -> socket.socket:
    """A connection to rank 1, which has accepted this rank.

    Raises:
        InputError: it has not.
        OSError, ValueError: nobody is there, or somebody else.
    """
    other = socket.create_connection(address, _HANDSHAKE)
    try:
        drawn, own_drawn = _read(other, _SECRET), secrets.token_bytes(_SECRET)
        hello = _HELLO.pack(rank.number, rank.total, _digest(work), own_drawn)
        other.sendall(hello + _proof(secret, b"rank", drawn + hello))
        about = _read(other, _ANSWER.size)
        if not hmac.compare_digest(_read(other, _SECRET), _proof(secret, b"first", own_drawn + about)):
            raise ValueError("a stranger")
        answer, total = _ANSWER.unpack(about)
        if answer == _OTHER_NUMBER:
            raise InputError(
                f"rank 1 was started as 1/{total}, this one as {rank}; give all of them the same N"
            )
        if answer == _OTHER_WORK:
            raise InputError(
                "rank 1 works with another preparation, or other checkpoints; see that all ranks share the project"
            )
        if answer == _TAKEN:
            raise InputError(
                f"{_named([rank.number], rank.total)} is there already; give each one a number of its own"
            )
    except BaseException:
        other.close()
        raise
    return other


def _set_up(other: socket.socket) -> socket.socket:
    """The options of a connection that lasts."""
    other.settimeout(_PATIENCE)
    # small messages that wait for their answers
    other.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    other.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    third = int(_UNREACHABLE / 3)
    for name, value in (
        ("TCP_KEEPIDLE", third),
        ("TCP_KEEPINTVL", third),
        ("TCP_KEEPCNT", 2),
        ("TCP_USER_TIMEOUT", int(1000 * _UNREACHABLE)),
    ):
        if hasattr(socket, name):
            other.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return other


def _addresses(host: str) -> tuple[str, ...]:
    """Numbers under which others may reach this machine if they do not know its name."""
    found: list[str] = []
    with suppress(OSError):
        found += socket.gethostbyname_ex(host)[2]
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing; an address that is kept for examples
        found.append(probe.getsockname()[0])
    return tuple(dict.fromkeys(found))


def _named(numbers: Sequence[int], total: int) -> str:
    return f"rank{'s' if len(numbers) > 1 else ''} {ranges(numbers)} of {total}"


def _digest(work: str) -> bytes:
    return hmac.new(b"", work.encode(), "sha256").digest()


def _proof(secret: bytes, side: bytes, about: bytes) -> bytes:
    return hmac.new(secret, side + about, "sha256").digest()


def _read(other: socket.socket, n: int) -> bytes:
    found = bytearray(n)
    _read_into(other, memoryview(found))
    return bytes(found)


def _read_into(other: socket.socket, view: memoryview) -> None:
    done = 0
    while done < len(view):
        n = other.recv_into(view[done:])
        if n == 0:
            raise ConnectionResetError("the other side has ended")
        done += n
