"""Ranks that find each other and add numbers, as threads of this process and as processes."""

from __future__ import annotations

import json
import re
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from tio2nn.errors import InputError
from tio2nn.job_part import JobPart
from tio2nn.parallel import rendezvous
from tio2nn.parallel.exchange import Exchange, exchange
from tio2nn.version import __version__

Result = TypeVar("Result")


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "ranks.json"
    assert list(tmp_path.iterdir()) == []


def in_threads(
    file: Path, n: int, function: Callable[[Exchange], Result], work: str = "w", wait: float = 20.0
) -> list[Result]:
    """What each of n ranks returns."""

    def rank(number: int) -> Result:
        with exchange(file, JobPart(number, n), work, wait) as found:
            return function(found)

    with ThreadPoolExecutor(n) as pool:
        return list(pool.map(rank, range(1, n + 1)))


def sum_of_numbers(file: Path, number: int, n: int) -> float:
    """What the numbers of all n ranks add up to, as this one hears."""
    with exchange(file, JobPart(number, n), "w", 20.0) as found:
        return float(found.sum(np.array([number]))[0])


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_sums_have_the_same_bits_everywhere_and_in_every_run(file: Path, n: int) -> None:
    own = np.random.default_rng(0).normal(size=(n, 7, 1001)).astype(np.float32)
    expected = own[0].copy()
    for other in own[1:]:
        expected += other
    for _ in range(2):
        for found in in_threads(file, n, lambda rank: rank.sum(own[rank.rank.number - 1])):
            np.testing.assert_array_equal(found, expected)


def test_what_is_given_is_left_as_it_is_and_numbers_of_any_kind_and_shape_travel(file: Path) -> None:
    def check(rank: Exchange) -> bool:
        number = rank.rank.number
        own = np.full((3, 2), float(number)).T
        assert rank.sum(own).tolist() == [[6.0] * 3] * 2
        assert own.tolist() == [[number] * 3] * 2
        assert rank.sum(np.zeros((2, 0, 3), np.float32)).shape == (2, 0, 3)
        given = rank.from_first(np.array([number, np.inf, np.nan]))
        np.testing.assert_array_equal(given, [1, np.inf, np.nan])
        # more than what the system holds for a connection
        return bool(np.all(rank.sum(np.full(3_000_000, number, np.float32)) == 6.0))

    assert in_threads(file, 3, check) == [True] * 3


def test_only_its_user_reads_the_secret(tmp_path: Path) -> None:
    file = tmp_path / "ranks.json"
    seen: list[int] = []
    with (
        pytest.raises(InputError),
        exchange(file, JobPart(1, 2), "w", 0.1, lambda _: seen.append(stat.S_IMODE(file.stat().st_mode))),
    ):
        pass
    assert seen == [0o600]
    assert not file.exists()


def joined(file: Path, rank: JobPart, told: Callable[[str], None] | None = None, wait: float = 0.2) -> None:
    """A rank that waits for others in vain."""
    with exchange(file, rank, "w", wait, told):
        pass


def test_a_rank_that_does_not_start_is_named(file: Path) -> None:
    with pytest.raises(InputError, match=r"^ranks 2 to 4 of 4 did not start within 0\.2 s; start all"):
        joined(file, JobPart(1, 4))
    told: list[str] = []
    with pytest.raises(InputError, match=r"^rank 1 of 4 did not start within 0\.2 s, or cannot be reached"):
        joined(file, JobPart(3, 4), told.append)
    assert told == ["waiting for rank 1 of 4"]


def test_a_file_that_a_killed_run_has_left_is_waited_over(tmp_path: Path) -> None:
    file = tmp_path / "ranks.json"
    for left in (
        "",
        "[]",
        json.dumps({"host": "h", "addresses": [], "port": 1, "secret": "xyz"}),
        json.dumps(
            {"host": socket.gethostname(), "addresses": ["127.0.0.1"], "port": 1, "secret": "00" * 32}
        ),
    ):
        file.write_text(left, encoding="utf-8")
        with ThreadPoolExecutor(2) as pool:
            second = pool.submit(sum_of_numbers, file, 2, 2)
            time.sleep(0.3)
            first = pool.submit(sum_of_numbers, file, 1, 2)
            assert (first.result(), second.result()) == (3.0, 3.0)
        assert not file.exists()


@pytest.mark.parametrize(
    ("other", "work", "reason"),
    [
        (JobPart(2, 3), "w", "rank 1 was started as 1/2, this one as 2/3; give all of them the same N"),
        (JobPart(2, 2), "another", "rank 1 works with another preparation"),
    ],
)
def test_a_rank_that_does_not_belong_there_says_so_and_the_others_go_on(
    file: Path, other: JobPart, work: str, reason: str
) -> None:
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(sum_of_numbers, file, 1, 2)
        with pytest.raises(InputError) as raised, exchange(file, other, work, 20.0):
            pass
        assert str(raised.value).startswith(reason)
        second = pool.submit(sum_of_numbers, file, 2, 2)
        assert (first.result(), second.result()) == (3.0, 3.0)


def test_a_number_that_is_taken_is_refused(file: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(sum_of_numbers, file, 1, 3), pool.submit(sum_of_numbers, file, 2, 3)]
        while not file.exists():
            time.sleep(0.01)
        time.sleep(0.5)
        with (
            pytest.raises(InputError, match=r"^rank 2 of 3 is already connected"),
            exchange(file, JobPart(2, 3), "w", 20.0),
        ):
            pass
        running.append(pool.submit(sum_of_numbers, file, 3, 3))
        assert [own.result() for own in running] == [6.0] * 3


def test_strangers_are_turned_away(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "HANDSHAKE", 0.3)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(sum_of_numbers, file, 1, 2)
        while not file.exists():
            time.sleep(0.01)
        port = json.loads(file.read_text(encoding="utf-8"))["port"]
        for said in (b"", b"GET / HTTP/1.0\r\n\r\n", bytes(104), b"\xff" * 10_000):
            with socket.create_connection(("127.0.0.1", port)) as stranger, suppress(OSError):
                stranger.sendall(said)
                while stranger.recv(1000):
                    pass
        assert first.running()
        second = pool.submit(sum_of_numbers, file, 2, 2)
        assert (first.result(), second.result()) == (3.0, 3.0)


def test_nothing_is_said_to_one_that_only_looks_like_rank_1(tmp_path: Path) -> None:
    """Somebody else listens at the port of a run that was killed."""
    file = tmp_path / "ranks.json"
    with socket.create_server(("127.0.0.1", 0)) as stranger, ThreadPoolExecutor(1) as pool:
        about = {"host": socket.gethostname(), "addresses": [], "secret": "00" * 32}
        file.write_text(json.dumps(about | {"port": stranger.getsockname()[1]}), encoding="utf-8")

        def join() -> None:
            with exchange(file, JobPart(2, 2), "w", 1.0):
                pass

        joining = pool.submit(join)
        other, _ = stranger.accept()
        with other:
            other.sendall(bytes(32))
            while len(other.recv(1000)) == 0:
                pass
            other.sendall(bytes(40))
        stranger.close()
        with pytest.raises(InputError, match=r"^rank 1 of 2 did not start within 1 s"):
            joining.result()


def test_a_stranger_that_drips_does_not_hold_up_rank_1(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "HANDSHAKE", 0.5)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(joined, file, JobPart(1, 2), None, 1.0)
        while not file.exists():
            time.sleep(0.01)
        port, begin = json.loads(file.read_text(encoding="utf-8"))["port"], time.monotonic()
        with socket.create_connection(("127.0.0.1", port)) as stranger, suppress(OSError):
            while time.monotonic() < begin + 8.0:
                stranger.sendall(b"\0")
                time.sleep(0.1)
        assert time.monotonic() - begin < 3.0
        with pytest.raises(InputError, match=r"^rank 2 of 2 did not start within 1 s"):
            first.result()


def test_one_that_only_looks_like_rank_1_and_drips_does_not_hold_up_a_rank(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendezvous, "HANDSHAKE", 0.5)
    file = tmp_path / "ranks.json"
    with socket.create_server(("127.0.0.1", 0)) as stranger, ThreadPoolExecutor(1) as pool:
        about = {"host": socket.gethostname(), "addresses": [], "secret": "00" * 32}
        file.write_text(json.dumps(about | {"port": stranger.getsockname()[1]}), encoding="utf-8")
        joining, begin = pool.submit(joined, file, JobPart(2, 2), None, 1.0), time.monotonic()
        other, _ = stranger.accept()
        stranger.close()
        with other, suppress(OSError):
            while time.monotonic() < begin + 8.0:
                other.sendall(b"\0")
                time.sleep(0.1)
        with pytest.raises(InputError, match=r"^rank 1 of 2 did not start within 1 s"):
            joining.result()
        assert time.monotonic() - begin < 4.0


def test_a_rank_that_dies_before_all_are_there_can_start_again(file: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(sum_of_numbers, file, 1, 3)]
        process = subprocess.Popen(
            [sys.executable, "-c", _RANK, str(file), "2/3", "0"], stdout=subprocess.PIPE
        )
        time.sleep(2.0)
        process.kill()
        process.communicate()
        running += [pool.submit(sum_of_numbers, file, 2, 3), pool.submit(sum_of_numbers, file, 3, 3)]
        assert [own.result() for own in running] == [6.0] * 3


def test_no_rank_begins_before_all_are_there(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "_PATIENCE", 0.3)  # of those that have begun
    begun: list[int] = []

    def rank(number: int) -> float:
        with exchange(file, JobPart(number, 3), "w", 20.0) as found:
            begun.append(number)
            return float(found.sum(np.array([number]))[0])

    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(rank, 1), pool.submit(rank, 2)]
        time.sleep(1.0)
        assert begun == []
        running.append(pool.submit(rank, 3))
        assert [own.result() for own in running] == [6.0] * 3


def test_ranks_that_are_there_hear_which_one_is_not(file: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(joined, file, JobPart(1, 3), None, 2.0)
        second = pool.submit(joined, file, JobPart(2, 3), None, 20.0)
        for own in (first, second):
            with pytest.raises(InputError, match=r"^rank 3 of 3 did not start within 2 s; start all ranks"):
                own.result()


def test_a_rank_waits_for_another_rank_1_if_the_first_one_dies(tmp_path: Path) -> None:
    file = tmp_path / "ranks.json"

    with ThreadPoolExecutor(3) as pool:
        process = subprocess.Popen(
            [sys.executable, "-c", _RANK, str(file), "1/3", "0"], stdout=subprocess.PIPE
        )
        running = [pool.submit(sum_of_numbers, file, 2, 3)]
        time.sleep(2.0)
        process.kill()
        process.communicate()
        running += [pool.submit(sum_of_numbers, file, 1, 3), pool.submit(sum_of_numbers, file, 3, 3)]
        assert [own.result() for own in running] == [6.0] * 3


def test_another_version_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = subprocess.Popen([sys.executable, "-c", _RANK, str(file), "1/2", "0"], stdout=subprocess.PIPE)
    monkeypatch.setattr(rendezvous, "__version__", "0.0.1")
    expected = rf"^rank 1 runs tio2nn {re.escape(__version__)}, this one 0\.0\.1; install the same version"
    with pytest.raises(InputError, match=expected):
        joined(file, JobPart(2, 2), None, 20.0)
    monkeypatch.undo()
    with exchange(file, JobPart(2, 2), "w", 20.0):
        pass
    process.communicate(timeout=60)


@pytest.mark.parametrize("wait", [1e10, 1e300, np.inf])
def test_ranks_can_wait_as_long_as_one_likes(file: Path, wait: float) -> None:
    assert in_threads(file, 2, lambda rank: float(rank.sum(np.ones(1))[0]), wait=wait) == [2.0, 2.0]


def test_rank_1_listens_on_addresses_of_both_kinds(file: Path) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(joined, file, JobPart(1, 2), None, 1.0)
        while not file.exists():
            time.sleep(0.01)
        port = json.loads(file.read_text(encoding="utf-8"))["port"]
        for address in ("127.0.0.1", "::1"):
            with socket.create_connection((address, port), 5.0) as stranger:
                assert len(stranger.recv(32)) > 0
        with pytest.raises(InputError, match="did not start"):
            first.result()


_RANK = """
import os
import sys
from pathlib import Path

import numpy as np

from tio2nn.errors import InputError
from tio2nn.job_part import JobPart
from tio2nn.parallel.exchange import exchange

rank, dies = JobPart.parse(sys.argv[2]), sys.argv[3]
try:
    with exchange(Path(sys.argv[1]), rank, "w") as found:
        for step in range(1000):
            if step == 500 and str(rank.number) == dies:
                os.kill(os.getpid(), 9)
            found.sum(np.ones(1000))
except InputError as error:
    print(error)
"""


@pytest.mark.parametrize("dies", [1, 2, 3])
def test_the_others_notice_at_once_which_rank_has_died(file: Path, dies: int) -> None:
    processes = {
        number: subprocess.Popen(
            [sys.executable, "-c", _RANK, str(file), f"{number}/3", str(dies)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in (1, 2, 3)
    }
    processes[dies].communicate(timeout=120)
    begin = time.monotonic()
    expected = f"rank {dies} of 3 has ended; start all ranks again; they go on from the last checkpoint\n"
    for number in {1, 2, 3} - {dies}:
        out, _ = processes[number].communicate(timeout=60)
        assert out == expected
    assert time.monotonic() - begin < 10.0


def test_a_rank_that_hangs_is_given_up(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "_PATIENCE", 0.5)

    def rank(found: Exchange) -> str:
        if found.rank.number == 3:
            time.sleep(2.0)
            return ""
        with pytest.raises(InputError) as raised:
            found.sum(np.zeros(3))
        assert found.error is raised.value
        return str(raised.value)

    first, second, _ = in_threads(file, 3, rank)
    again = "start all ranks again; they go on from the last checkpoint"
    assert first == f"rank 3 of 3 has said nothing for 0.5 s; {again}"
    # whichever it notices first: that rank 1 says nothing, or what it says
    assert second in (
        f"rank 3 of 3 has ended; {again}",
        f"rank 1 of 3 has said nothing for 0.5 s; {again}",
        f"rank 1 of 3 has ended; {again}",
    )
