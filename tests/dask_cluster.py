"""A real Dask cluster on this machine: scheduler and workers as processes, TLS between them."""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tio2nn

# they end by themselves, should the tests be killed
_NO_ORPHANS = ("--idle-timeout", "1800s", "--death-timeout", "60")
_SECONDS = 120.0  # a busy machine starts a worker in ten


def make_certificates(directory: Path) -> tuple[Path, Path, Path]:
    """PEM files of an authority, of a certificate for 127.0.0.1 that it signed, and of its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    def certificate(subject: str, issuer: str, public: Any, signer: Any, *, authority: bool) -> bytes:
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name(issuer))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
                critical=False,
            )
        )
        return bytes(builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    directory.mkdir(parents=True, exist_ok=True)
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    files = {
        "authority.pem": certificate(
            "authority", "authority", authority_key.public_key(), authority_key, authority=True
        ),
        "certificate.pem": certificate("here", "authority", key.public_key(), authority_key, authority=False),
        "key.pem": key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    }
    for file, content in files.items():
        (directory / file).write_bytes(content)
    authority, own, own_key = (directory / file for file in files)
    return authority, own, own_key


@dataclass
class DaskCluster:
    """The processes of a cluster.

    Attributes:
        directory: of the scheduler's file, of logs, and of what workers write.
        tls: PEM files; None for plain TCP on 127.0.0.1.
    """

    directory: Path
    tls: tuple[Path, Path, Path] | None = None
    scheduler: subprocess.Popen[bytes] | None = None
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def file(self) -> Path:
        """The file that the scheduler writes."""
        return self.directory / "scheduler.json"

    @property
    def options(self) -> list[str]:
        """Of our commands."""
        return ["--scheduler", str(self.file), *(["--tls", *map(str, self.tls)] if self.tls else [])]

    def start_scheduler(self) -> None:
        self.scheduler = self._start(
            "scheduler",
            ["--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(self.file), *_NO_ORPHANS[:2]],
        )
        wait_until(lambda: self.file.exists() and bool(self.file.read_text("utf-8").strip()))

    def start_worker(self, threads: int = 1, *more: str) -> None:
        worker = ["--scheduler-file", str(self.file), "--nthreads", str(threads), "--host", "127.0.0.1"]
        scratch = ["--local-directory", str(self.directory / "scratch")]
        self.workers.append(self._start("worker", [*worker, *scratch, *_NO_ORPHANS[2:], *more]))

    def _start(self, kind: str, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
        files = ("--tls-ca-file", "--tls-cert", "--tls-key")
        tls = [text for pair in zip(files, map(str, self.tls or ()), strict=False) for text in pair]
        protocol = ["--protocol", "tls"] if self.tls else []
        places = [str(Path(tio2nn.__file__).parents[1]), str(Path(__file__).parent)]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([*places, os.environ.get("PYTHONPATH", "")]),
            "DASK_DISTRIBUTED__SCHEDULER__WORK_STEALING": "True",
        }
        with (self.directory / f"{kind}-{len(self.workers)}.log").open("wb") as log:
            return subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    f"distributed.cli.dask_{kind}",
                    "--no-dashboard",
                    *protocol,
                    *tls,
                    *arguments,
                ],
                stdout=log,
                stderr=log,
                env=environment,
            )

    def address(self) -> str:
        return str(json.loads(self.file.read_text("utf-8"))["address"])

    def stop(self) -> None:
        for process in (*self.workers, self.scheduler):
            if process is not None:
                process.terminate()
        for process in (*self.workers, self.scheduler):
            if process is not None:
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


@contextmanager
def dask_cluster(
    directory: Path, threads: Sequence[int], *, encrypted: bool = False, worker: Sequence[str] = ()
) -> Iterator[DaskCluster]:
    """A cluster of workers with so many threads each."""
    tls = make_certificates(directory / "certificates") if encrypted else None
    cluster = DaskCluster(directory, tls)
    try:
        cluster.start_scheduler()
        for n in threads:
            cluster.start_worker(n, *worker)
        yield cluster
    finally:
        cluster.stop()


def wait_until(condition: Callable[[], bool], seconds: float = _SECONDS) -> None:
    """Wait for a condition; a test in which it does not come true fails."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)
