"""How to reach a Dask scheduler: its address, and the certificates that prove who asks.

A scheduler runs what it is sent. Plain TCP authenticates no one, so anyone who reaches its port runs programs
as the user who started it; beyond this machine, addresses therefore need TLS.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tio2nn.errors import InputError, UsageError
from tio2nn.files.strict_json import load

WAIT_SECONDS = 60.0
"""How long to wait for a scheduler and for workers unless told otherwise."""

_POLL_SECONDS = 0.2
_WRITTEN_SECONDS = 2.0  # a file that is there may still be being written
_ENCRYPTED = ("tls", "wss")
_PLAIN = ("tcp", "ws", "ucx")
_WITHIN_THE_PROCESS = ("inproc",)


@dataclass(frozen=True)
class Scheduler:
    """Which scheduler to use, and how.

    Attributes:
        where: its address, or the file that `dask scheduler --scheduler-file` writes.
        tls: PEM files of the certificate authority, of the own certificate and of its key; None for those in Dask's
            configuration, if there are any.
        insecure: allow addresses without TLS beyond this machine.
        wait: seconds to wait for the scheduler, and whenever there is no worker.
    """

    where: str
    tls: tuple[Path, Path, Path] | None = None
    insecure: bool = False
    wait: float = WAIT_SECONDS

    def address(self) -> str:
        """The address, from the file if there is one; waits for a file that is not there yet.

        Raises:
            InputError: there is no such file, or no address in it.
            UsageError: the address is none, or needs TLS.
        """
        address = _address_in(Path(self.where), self.wait) if _is_file_name(self.where) else self.where
        if "://" not in address:
            address = f"{'tls' if self.tls else 'tcp'}://{address}"
        is_known = _protocol(address) in (*_ENCRYPTED, *_PLAIN, *_WITHIN_THE_PROCESS)
        if not (is_known and _host_and_port(address)[1]):
            raise UsageError(
                f"--scheduler: expected an address such as tls://host:8786, or a file, got {self.where}"
            )
        self.require_protection([address])
        if self.tls and _protocol(address) not in _ENCRYPTED:
            raise UsageError(f"--tls: expected a scheduler with TLS, tls://..., got {address}")
        return address

    def require_protection(self, addresses: Iterable[str]) -> None:
        """Refuse addresses that others reach and that do not ask for a certificate.

        Raises:
            UsageError: there is one, and `insecure` is not set.
        """
        for address in addresses:
            if not (self.insecure or is_protected(address)):
                raise UsageError(
                    f"refusing to use {address}: without TLS, anyone who reaches that port runs programs as you; "
                    "start scheduler and workers with TLS, or on 127.0.0.1 alone, or take the risk with --insecure"
                )

    def security(self, address: str) -> Any:
        """The `distributed.Security` of a client.

        Raises:
            InputError: a certificate cannot be read.
            UsageError: there is none for an address that needs one.
        """
        from distributed import Security

        if self.tls is not None:
            for file in self.tls:
                if not file.is_file():
                    raise InputError("expected a PEM file, got no file", file=str(file))
            authority, certificate, key = map(str, self.tls)
            return Security(
                require_encryption=True,
                tls_ca_file=authority,
                tls_client_cert=certificate,
                tls_client_key=key,
            )
        security = Security()
        if _protocol(address) in _ENCRYPTED:
            if security.tls_ca_file is None or security.tls_client_cert is None:
                raise UsageError(
                    f"expected certificates for {address}, got none; name them with --tls CA CERTIFICATE KEY or in "
                    "Dask's configuration, distributed.comm.tls"
                )
            security.require_encryption = True
        return security


def is_protected(address: str) -> bool:
    """Whether no one else can reach an address, or it asks for a certificate."""
    if _protocol(address) in (*_ENCRYPTED, *_WITHIN_THE_PROCESS):
        return True
    host = _host_and_port(address)[0]
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _protocol(address: str) -> str:
    return address.partition("://")[0].lower()


def _host_and_port(address: str) -> tuple[str, str]:
    """Host and port; an address within a process has a path in their place."""
    rest = address.partition("://")[2]
    if _protocol(address) in _WITHIN_THE_PROCESS:
        return rest, rest
    host, _, port = rest.rpartition(":")
    return host.strip("[]"), port if port.isdigit() else ""


def _is_file_name(where: str) -> bool:
    if "://" in where or not where:
        return False
    return Path(where).exists() or not _host_and_port(f"tcp://{where}")[1]


def _address_in(file: Path, wait: float) -> str:
    deadline = time.monotonic() + wait
    while not file.exists():
        if time.monotonic() > deadline:
            raise InputError(
                f"expected a scheduler's file, got no file after {wait:g} s; start the scheduler with "
                f"--scheduler-file {file}",
                file=str(file),
            )
        time.sleep(_POLL_SECONDS)
    deadline = time.monotonic() + _WRITTEN_SECONDS
    while True:
        try:
            document = load(file)
            break
        except InputError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_POLL_SECONDS)
    address = document.get("address") if isinstance(document, dict) else None
    if not isinstance(address, str):
        raise InputError('expected a scheduler\'s file with "address", got another one', file=str(file))
    return address
