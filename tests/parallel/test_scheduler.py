"""Addresses of schedulers: which are safe to use, and what is said of the others in one line."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from command_line import refusal
from projects import extracted_project

from tio2nn.errors import InputError, UsageError
from tio2nn.parallel.cluster import Cluster, _differing
from tio2nn.parallel.hosts import Host, this_host
from tio2nn.parallel.scheduler import Scheduler, is_protected

_REFUSED = (
    "refusing to use tcp://10.0.0.5:8786: without TLS, anyone who reaches that port runs programs as you; start "
    "scheduler and workers with TLS, or on 127.0.0.1 alone, or take the risk with --insecure"
)
_WITHOUT_CERTIFICATES = (
    "expected certificates for tls://10.0.0.5:8786, got none; name them with --tls CA CERTIFICATE KEY or in Dask's "
    "configuration, distributed.comm.tls"
)
_PEM = (Path("authority.pem"), Path("certificate.pem"), Path("key.pem"))


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("tls://10.0.0.5:8786", True),
        ("wss://example.org:443", True),
        ("inproc://10.0.0.5/1234/1", True),
        ("tcp://127.0.0.1:8786", True),
        ("tcp://127.3.2.1:8786", True),
        ("tcp://[::1]:8786", True),
        ("tcp://localhost:8786", True),
        ("tcp://10.0.0.5:8786", False),
        ("tcp://0.0.0.0:8786", False),
        ("tcp://[::]:8786", False),
        ("tcp://node17:8786", False),
        ("tcp://localhost.example.org:8786", False),
        ("tcp://127.0.0.1.example.org:8786", False),
        ("ws://10.0.0.5:8786", False),
        ("ucx://10.0.0.5:8786", False),
        ("TCP://10.0.0.5:8786", False),
        ("TLS://10.0.0.5:8786", True),
    ],
)
def test_plain_addresses_are_safe_on_this_machine_alone(address: str, expected: bool) -> None:
    assert is_protected(address) is expected


@pytest.mark.parametrize(
    ("scheduler", "expected"),
    [
        (Scheduler("127.0.0.1:8786"), "tcp://127.0.0.1:8786"),
        (Scheduler("node17:8786", _PEM), "tls://node17:8786"),
        (Scheduler("node17:8786", insecure=True), "tcp://node17:8786"),
        (Scheduler("tls://node17:8786"), "tls://node17:8786"),
        (Scheduler("tcp://[::1]:8786"), "tcp://[::1]:8786"),
    ],
)
def test_an_address_needs_no_protocol(scheduler: Scheduler, expected: str) -> None:
    assert scheduler.address() == expected


def test_the_file_of_a_scheduler_gives_its_address(tmp_path: Path) -> None:
    file = tmp_path / "scheduler.json"
    file.write_text('{"address": "tls://node17:8786", "workers": {}}', encoding="utf-8")
    assert Scheduler(str(file)).address() == "tls://node17:8786"
    file.write_text('{"address": "tcp://node17:8786"}', encoding="utf-8")
    with pytest.raises(UsageError, match="refusing to use tcp://node17:8786: without TLS, anyone"):
        Scheduler(str(file)).address()
    file.write_text("[]", encoding="utf-8")
    with pytest.raises(InputError, match=r"expected a scheduler's file with .address., got another"):
        Scheduler(str(file)).address()
    with pytest.raises(InputError, match=r"got no file after 0\.2 s; start the scheduler with"):
        Scheduler(str(tmp_path / "none.json"), wait=0.2).address()


@pytest.mark.parametrize(
    ("options", "code", "expected"),
    [
        (
            ["--scheduler", "tcp://10.0.0.5:8786"],
            2,
            _REFUSED,
        ),
        (
            ["--scheduler", "tls://10.0.0.5:8786"],
            2,
            _WITHOUT_CERTIFICATES,
        ),
        (
            ["--scheduler", "tcp://127.0.0.1:1", "--tls", "a.pem", "b.pem", "c.pem"],
            2,
            "--tls: expected a scheduler with TLS, tls://..., got tcp://127.0.0.1:1",
        ),
        (
            ["--scheduler", "tls://127.0.0.1:1", "--tls", "a.pem", "b.pem", "c.pem"],
            3,
            "a.pem: expected a PEM file, got no file",
        ),
        (
            ["--scheduler", "tcp://node17"],
            2,
            "--scheduler: expected an address such as tls://host:8786, or a file, got tcp://node17",
        ),
        (
            # of the dashboard
            ["--scheduler", "http://127.0.0.1:8787"],
            2,
            "--scheduler: expected an address such as tls://host:8786, or a file, got http://127.0.0.1:8787",
        ),
        (
            ["--scheduler", ""],
            2,
            "--scheduler: expected an address such as tls://host:8786, or a file, got ",
        ),
        (["--insecure"], 2, "--insecure: expected --scheduler as well, got none"),
        (["--wait", "0"], 2, "--wait: expected --scheduler as well, got none"),
        (["--wait", "3"], 2, "--wait: expected --scheduler as well, got none"),
        (["--tls", "a.pem", "b.pem", "c.pem"], 2, "--tls: expected --scheduler as well, got none"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line(
    tmp_path: Path, options: list[str], code: int, expected: str
) -> None:
    if "--scheduler" in options:
        pytest.importorskip("distributed", reason="needs the extra cluster")
    project = extracted_project(tmp_path / "p")
    assert refusal("featurize", "-C", project.root, *options, code=code) == expected


@pytest.mark.parametrize("command", ["tune --part 1/2", "train --member 1", "train --prepare"])
def test_jobs_of_an_array_take_no_option_about_schedulers(tmp_path: Path, command: str) -> None:
    project = extracted_project(tmp_path / "p")
    verb, *options = command.split()
    line = refusal(verb, "-C", project.root, *options, "--wait", "3", code=2)
    assert line == "--wait: expected --scheduler as well, got none"


def test_nothing_listens(tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="needs the extra cluster")
    project = extracted_project(tmp_path / "p")
    said = refusal("featurize", "-C", project.root, "--scheduler", "127.0.0.1:1", "--wait", 0.5, code=3)
    assert said.startswith("cannot reach the scheduler tcp://127.0.0.1:1 within 0.5 s: ")


_HERE = Host("a 1", "a", "Xeon", "1234", ("0.2", "2"), {"python": "3.11.7", "numpy": "2.1"}, True)


def test_what_makes_last_digits_differ_is_told() -> None:
    assert _differing(_HERE, [_HERE, _HERE]) == ""
    other = _HERE._replace(machine="b 1", processor="EPYC", instructions="5678")
    end = ": the last digits of results depend on who computed them"
    assert _differing(_HERE, [other, _HERE]) == f"the workers have different processors (EPYC, Xeon){end}"
    assert (
        _differing(_HERE, [other, other])
        == f"the workers have another processor than this machine (EPYC){end}"
    )
    newer = _HERE._replace(libraries={"python": "3.12.1", "numpy": "2.1", "tensorflow": "2.18"})
    assert _differing(_HERE, [_HERE, newer]) == f"other versions of python than here{end}"


@pytest.mark.parametrize(
    ("workers", "listens"), [("127.0.0.1", "10.0.0.5"), ("10.0.0.6", "127.0.0.1"), ("127.0.0.1", "127.0.0.1")]
)
def test_what_others_reach_is_refused_however_it_was_reached(workers: str, listens: str) -> None:
    """A scheduler may listen to all the world and be asked from its own machine, or have workers that do."""
    client = SimpleNamespace(
        status="running",
        scheduler=SimpleNamespace(addr="tcp://127.0.0.1:8786"),
        nthreads=lambda: {f"tcp://{workers}:1234": 2},
        scheduler_info=lambda: {"address": f"tcp://{listens}:8786"},
        run=lambda *_, **__: {f"tcp://{workers}:1234": this_host()},
    )
    cluster = Cluster(client, Scheduler("127.0.0.1:8786"), None, lambda _: None, pytest.fail)
    if workers == listens:
        cluster.look()
        return
    with pytest.raises(UsageError, match=r"^refusing to use tcp://10\.0\.0\.\d:\d+: without TLS"):
        cluster.look()
