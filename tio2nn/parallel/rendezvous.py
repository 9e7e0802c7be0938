"""How ranks of one piece of work find each other, on one machine or on several.

Rank 1 listens and leaves its address and a secret in a file that only its user can read. The others read the file and
connect. Both sides then prove, by HMAC-SHA256 of numbers that the other one drew, that they know the secret.
"""

from __future__ import annotations

import hmac
import json
import os
import secrets
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tio2nn.errors import InputError
from tio2nn.job_part import JobPart
from tio2nn.version import __version__
from tio2nn.wording import ranges

HANDSHAKE = 5.0
"""Seconds for one side of a conversation that has not shown that it belongs here."""

_PATIENCE = 600.0  # s, for one message: a machine that hangs looks like one that computes
_UNREACHABLE = 60.0  # s, after which a machine that does not even acknowledge is given up
_POLL = 0.2  # s
_LONGEST = 1e8  # s, three years
_SECRET = 32  # bytes
_HELLO = struct.Struct("!II32s32s32s")  # rank, number of ranks, version, digest of the work, number drawn
# one of the next line, number of ranks, how many seconds rank 1 still waits for others, version
_ANSWER = struct.Struct("!IId32s")
_ACCEPTED, _OTHER_NUMBER, _OTHER_VERSION, _OTHER_WORK, _TAKEN = range(5)
_BEGIN = struct.Struct("!Id")  # 0: all ranks are there; else one that was missing after so many seconds


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


def host(
    file: Path, rank: JobPart, work: str, wait: float, on_wait: Callable[[str], None] | None
) -> list[socket.socket]:
    """The connections of rank 1, in the order of the ranks; arguments and errors as for `exchange`."""
    found: dict[int, socket.socket] = {}
    until = time.monotonic() + wait
    listener = _listening(rank.total)
    try:
        secret = secrets.token_bytes(_SECRET)
        host = socket.gethostname()
        _Place(host, _addresses(host), listener.getsockname()[1], secret).write(file)
        if rank.total > 1 and on_wait is not None:
            on_wait(f"waiting for {told_ranks(range(2, rank.total + 1), rank.total)}")
        while len(found) < rank.total - 1:
            listener.settimeout(_until(until))
            try:
                other, _ = listener.accept()
            except TimeoutError:
                missing = [k for k in range(2, rank.total + 1) if k not in found]
                _tell(found, missing[0], wait)
                raise _late(missing, rank.total, wait) from None
            for number in [number for number, own in found.items() if _has_ended(own)]:
                found.pop(number).close()
            accepted = None
            with suppress(OSError, ValueError):  # a stranger
                accepted = _welcome(other, rank.total, secret, work, until - time.monotonic(), found)
            if accepted is None:
                other.close()
            else:
                found[accepted] = _set_up(other)
        _tell(found, 0, wait)
    except BaseException:
        for other in found.values():
            other.close()
        raise
    finally:
        listener.close()
        file.unlink(missing_ok=True)
    return [found[number] for number in sorted(found)]


def _welcome(
    other: socket.socket, total: int, secret: bytes, work: str, rest: float, found: dict[int, socket.socket]
) -> int | None:
    """The number of the rank that has connected; None for a stranger, or one that does not belong here.

    Args:
        other: the connection.
        total: number of ranks.
        secret, work: that it must know.
        rest: s, for which other ranks are waited for.
        found: those that are there.
    """
    other.settimeout(HANDSHAKE)
    drawn, until = secrets.token_bytes(_SECRET), time.monotonic() + HANDSHAKE
    other.sendall(drawn)
    hello = receive(other, _HELLO.size, until)
    if not hmac.compare_digest(receive(other, _SECRET, until), _proof(secret, b"rank", drawn + hello)):
        return None
    number, its_total, its_version, its_work, its_drawn = _HELLO.unpack(hello)
    answer = _ACCEPTED
    if its_total != total or not 2 <= number <= total:
        answer = _OTHER_NUMBER
    elif its_version != _own_version():
        answer = _OTHER_VERSION
    elif its_work != _digest(work):
        answer = _OTHER_WORK
    elif number in found:
        answer = _TAKEN
    about = _ANSWER.pack(answer, total, max(0.0, rest), _own_version())
    other.sendall(about + _proof(secret, b"first", its_drawn + about))
    return number if answer == _ACCEPTED else None


def join(
    file: Path, rank: JobPart, work: str, wait: float, on_wait: Callable[[str], None] | None
) -> list[socket.socket]:
    """The connection of another rank to rank 1; arguments and errors as for `exchange`."""
    until = time.monotonic() + wait
    while True:
        # a killed rank leaves its file; then nothing answers
        place = _Place.read(file)
        for address in () if place is None else place.candidates():
            assert place is not None, "it has addresses"
            # if rank 1 dies before all are there, another one may come
            with suppress(OSError, ValueError):
                return [_begun(*_introduced(address, place.secret, rank, work), rank)]
        if on_wait is not None:
            on_wait(f"waiting for {told_ranks([1], rank.total)}")
            on_wait = None
        if time.monotonic() > until:
            raise _late([1], rank.total, wait, ", or cannot be reached")
        time.sleep(_POLL)


def _introduced(
    address: tuple[str, int], secret: bytes, rank: JobPart, work: str
) -> tuple[socket.socket, float]:
    """A connection to rank 1, which has accepted this rank, and for how long it waits for others, s.

    Raises:
        InputError: it has not.
        OSError, ValueError: nothing answers, or something else does.
    """
    other = socket.create_connection(address, HANDSHAKE)
    until = time.monotonic() + HANDSHAKE
    try:
        drawn, own_drawn = receive(other, _SECRET, until), secrets.token_bytes(_SECRET)
        hello = _HELLO.pack(rank.number, rank.total, _own_version(), _digest(work), own_drawn)
        other.sendall(hello + _proof(secret, b"rank", drawn + hello))
        about, proof = receive(other, _ANSWER.size, until), receive(other, _SECRET, until)
        if not hmac.compare_digest(proof, _proof(secret, b"first", own_drawn + about)):
            raise ValueError("a stranger")
        answer, total, rest, version = _ANSWER.unpack(about)
        if answer == _OTHER_NUMBER:
            raise InputError(
                f"rank 1 was started as 1/{total}, this one as {rank}; give all of them the same N"
            )
        if answer == _OTHER_VERSION:
            raise InputError(
                f"rank 1 runs tio2nn {version.rstrip(bytes(1)).decode()}, this one {__version__}; install the same "
                "version for all of them"
            )
        if answer == _OTHER_WORK:
            raise InputError(
                "rank 1 works with another preparation; make sure that all ranks share the project"
            )
        if answer == _TAKEN:
            raise InputError(
                f"{told_ranks([rank.number], rank.total)} is already connected; give each rank its own number"
            )
    except BaseException:
        other.close()
        raise
    return other, rest


def _begun(other: socket.socket, rest: float, rank: JobPart) -> socket.socket:
    """The connection to rank 1, once all ranks are there, for which it waits so many seconds.

    Raises:
        InputError: one is missing.
        OSError: rank 1 has ended.
    """
    try:
        missing, wait = _BEGIN.unpack(receive(other, _BEGIN.size, time.monotonic() + rest + 2.0 * HANDSHAKE))
        if missing:
            raise _late([missing], rank.total, wait)
    except TimeoutError:
        other.close()
        raise InputError(
            f"{told_ranks([1], rank.total)} has said nothing for {rest + 2.0 * HANDSHAKE:g} s; start all ranks again"
        ) from None
    except BaseException:
        other.close()
        raise
    return _set_up(other)


def _tell(found: Mapping[int, socket.socket], missing: int, wait: float) -> None:
    """Let all ranks begin, or say which one is missing."""
    for other in found.values():
        with suppress(OSError):  # it has ended, which is noticed later
            other.sendall(_BEGIN.pack(missing, wait))


def _late(missing: Sequence[int], total: int, wait: float, also: str = "") -> InputError:
    return InputError(
        f"{told_ranks(missing, total)} did not start within {wait:g} s{also}; "
        "start all ranks at about the same time, or give --wait"
    )


def _has_ended(other: socket.socket) -> bool:
    """Whether a rank that waits, and says nothing meanwhile, is gone."""
    timeout = other.gettimeout()
    try:
        other.setblocking(False)
        return other.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        other.settimeout(timeout)


def _listening(n: int) -> socket.socket:
    """A socket at a free port of all addresses of this machine."""
    if socket.has_dualstack_ipv6():
        with suppress(OSError):  # IPv6 may be switched off
            return socket.create_server(("", 0), family=socket.AF_INET6, backlog=n, dualstack_ipv6=True)
    return socket.create_server(("", 0), backlog=n)


def _until(moment: float) -> float:
    """Seconds until then, as a socket can wait."""
    return min(max(0.001, moment - time.monotonic()), _LONGEST)


def _own_version() -> bytes:
    return __version__.encode()[:32].ljust(32, bytes(1))


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
        found += [str(place[0]) for *_, place in socket.getaddrinfo(host, None)]
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing; an address that is kept for examples
        found.append(probe.getsockname()[0])
    return tuple(dict.fromkeys(found))


def told_ranks(numbers: Sequence[int], total: int) -> str:
    """Ranks in a message: "ranks 2 to 4 of 4"."""
    return f"rank{'s' if len(numbers) > 1 else ''} {ranges(numbers)} of {total}"


def _digest(work: str) -> bytes:
    return hmac.new(b"", work.encode(), "sha256").digest()


def _proof(secret: bytes, side: bytes, about: bytes) -> bytes:
    return hmac.new(secret, side + about, "sha256").digest()


def receive(other: socket.socket, n: int, until: float | None = None) -> bytes:
    """The next n bytes; errors as for `receive_into`."""
    found = bytearray(n)
    receive_into(other, memoryview(found), until)
    return bytes(found)


def receive_into(other: socket.socket, view: memoryview, until: float | None = None) -> None:
    """Fill it with the next bytes.

    Args:
        other: the connection.
        view: to be filled.
        until: the time by `time.monotonic` when all must be there; None if each piece may take the socket's timeout.

    Raises:
        OSError: the other side has ended, or says nothing for too long.
    """
    done = 0
    while done < len(view):
        if until is not None:
            other.settimeout(_until(until))
        n = other.recv_into(view[done:])
        if n == 0:
            raise ConnectionResetError("the other side has ended")
        done += n
