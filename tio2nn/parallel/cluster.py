"""A Dask cluster that somebody else started: connect, look at the workers, make executors, leave it as it was.

The executors behave as the pools of local processes do, so that what works with those works with a cluster.
"""

from __future__ import annotations

import secrets
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from tio2nn.errors import InputError, UsageError, one_line
from tio2nn.parallel.brought_files import remove_files
from tio2nn.parallel.connection import Connection, Say
from tio2nn.parallel.hosts import Host, other_software, software, this_host
from tio2nn.parallel.remote import RemotePool
from tio2nn.parallel.remote_errors import no_workers
from tio2nn.parallel.remote_executor import Files, RemoteExecutor
from tio2nn.parallel.scheduler import Scheduler
from tio2nn.wording import counted, listed

_INSTALL = "pip install 'tio2nn[cluster]'"
_CLOSE_SECONDS = 2.0

# as in the pools of local processes
_NO_END = 10**9
_TRIALS_PER_PROCESS = 12


class Cluster(Connection):
    """A connection to a cluster whose workers have been looked at; made by `connected`."""

    def __init__(self, client: Any, scheduler: Scheduler, limit: int | None, say: Say, warn: Say) -> None:
        super().__init__(client, scheduler, limit, say)
        self.warn = warn
        self._lock = threading.Lock()
        self._seen: dict[Path, bool] = {}
        self._compiled: set[tuple[str, str]] = set()  # what, on which machine
        self.hosts: dict[str, Host] = {}

    # --- pools ---------------------------------------------------------------------------------------------

    def kernel_workers(
        self, folder: Path, *, derivatives: bool = False, strains: bool = False
    ) -> ClusterPool:
        """A pool for symmetry functions, and, if asked for, their derivatives.

        Args:
            folder: that the paths in the arguments of tasks lie in.
            derivatives, strains: also compile what derivatives with respect to positions and strain need.
        """
        from tio2nn.descriptors.symmetry_functions import compile_kernels

        name = "strains" if strains else "derivatives" if derivatives else "functions"
        function = partial(compile_kernels, derivatives, strains)
        return ClusterPool(self, folder, _NO_END, partial(self.compile, function, name))

    def predicting_workers(self) -> ClusterPool:
        """A pool for predictions."""
        from tio2nn.potential.networks import compile_predictions

        return ClusterPool(self, Path(), _NO_END, partial(self.compile, compile_predictions, "predictions"))

    def trial_workers(self, folder: Path) -> ClusterPool:
        """A pool for trials of a search."""
        return ClusterPool(self, folder, _TRIALS_PER_PROCESS)

    def member_workers(self, folder: Path) -> ClusterPool:
        """A pool for committee members."""
        return ClusterPool(self, folder, 1)

    # --- what is looked at once ------------------------------------------------------------------------------

    def look(self) -> None:
        """Look at the workers: their software, and what may make their numbers differ.

        Raises:
            InputError: a worker has another version of tio2nn, or none; or there is no worker in time.
            UsageError: a worker can be reached by others without TLS.
        """
        self._wait_for_a_worker()
        addresses = [self.address, *self.threads()]
        info = self.client.scheduler_info()
        self.scheduler.require_protection([*addresses, str(info.get("address", addresses[0]))])
        found = self._on_all(this_host)
        for worker, host in found.items():
            if isinstance(host, BaseException):
                reason = one_line(host) if isinstance(host, Exception) else repr(host)
                raise InputError(
                    f"cannot use tio2nn on the worker {worker}: {reason}; install the same version there"
                )
            if host.software != software():
                raise InputError(other_software(worker, host.software, software()))
        self.hosts = found
        if differing := _differing(this_host(), list(found.values())):
            self.warn(differing)

    def _wait_for_a_worker(self) -> None:
        from distributed import TimeoutError as Late

        if self.threads():
            return
        # a cluster that grows with its tasks has no worker before there is one
        first = self.client.submit(int, 0, pure=False, retries=0)
        try:
            first.result(timeout=self.scheduler.wait)
        except Late:
            first.cancel()
            raise InputError(no_workers(self.scheduler.wait)) from None
        except Exception:
            raise self.lost() from None

    def _on_all(self, function: Callable[..., Any], *args: Any) -> dict[str, Any]:
        """The results of a short function on all workers, by address; errors in place of results."""
        try:
            return dict(self.client.run(function, *args, on_error="return"))
        except Exception:
            if self.is_lost:
                raise self.lost() from None
            raise

    def sees(self, folder: Path) -> bool:
        """Whether all workers see a folder and may write there, tried with a file; told in one line."""
        with self._lock:
            if folder not in self._seen:
                self._seen[folder] = self._tried(folder)
            return self._seen[folder]

    def _tried(self, folder: Path) -> bool:
        probe, content = folder.absolute() / f".cluster-{self.command}", secrets.token_hex(8)
        probe.write_text(content, encoding="utf-8")
        try:
            found = self._on_all(this_host, (str(probe), content))
        finally:
            probe.unlink()
        n = sum(isinstance(host, Host) and host.sees for host in found.values())
        if found and n == len(found):
            self.say(f"the workers share {folder}: they read and write there")
            return True
        who = (
            "the workers do not share" if n == 0 else f"{len(found) - n} of {len(found)} workers do not share"
        )
        self.say(f"{who} {folder}: what they need and what they find goes over the network")
        return False

    def compile(self, compiling: Callable[[], None], name: str) -> None:
        """Let the workers compile: one of each processor model after the other, then those on other machines at once.

        Machine code is kept in files, which machines may share.

        Args:
            compiling: compiles kernels, or finds them compiled.
            name: of what it compiles; done once for each.
        """
        todo: dict[str, dict[str, str]] = {}
        for worker, host in self.hosts.items():
            if (name, host.machine) not in self._compiled:
                todo.setdefault(host.instructions, {}).setdefault(host.machine, worker)
        rounds = [list(machines.values())[:1] for machines in todo.values()]
        rounds.append([worker for machines in todo.values() for worker in list(machines.values())[1:]])
        for workers in filter(None, rounds):
            with RemoteExecutor(self, None, 1) as executor:
                for future in [executor.submit_to(worker, compiling) for worker in workers]:
                    future.result()
        self._compiled |= {(name, machine) for machines in todo.values() for machine in machines}

    def leave(self) -> None:
        """Disconnect; the cluster stays."""
        with suppress(Exception):
            if self.client.status == "running":
                self._on_all(remove_files, self.command)
        with suppress(Exception):
            self.client.close(timeout=_CLOSE_SECONDS)


@dataclass(frozen=True)
class ClusterPool(RemotePool):
    """Makes the executors of one kind of work."""

    cluster: Cluster
    folder: Path
    calls_per_process: int
    prepare: Callable[[], None] | None = None
    brings: bool = False

    def __call__(self, workers: int) -> RemoteExecutor:  # noqa: ARG002
        """An executor; of the number of tasks, only the limit of the cluster counts, as workers come and go."""
        if self.prepare is not None:
            self.prepare()
        files = Files(
            self.folder, not self.brings and self.cluster.sees(self.folder), with_tasks=not self.brings
        )
        return RemoteExecutor(self.cluster, files, self.calls_per_process)

    def bringing(self, folder: Path) -> ClusterPool:
        return replace(self, folder=folder, brings=True)


@contextmanager
def connected(
    scheduler: Scheduler,
    *,
    limit: int | None = None,
    say: Say = lambda _: None,
    warn: Say = lambda _: None,
) -> Iterator[Cluster]:
    """Connect to a cluster, and disconnect at the end; what was submitted is then canceled, the cluster goes on.

    Args:
        scheduler: which one, and how to reach it.
        limit: of the tasks at a time; None for as many as the workers have threads.
        say, warn: called with one line about the workers.

    Raises:
        UsageError: `distributed` is not installed, or the address needs TLS.
        InputError: the scheduler or workers are not there in time, or a worker has other software.
    """
    try:
        import distributed
    except ImportError as error:
        raise UsageError(f"cannot use Dask: {one_line(error)}; {_INSTALL}") from None
    address = scheduler.address()
    security = scheduler.security(address)
    try:
        with warnings.catch_warnings():
            # versions that differ are told in one line below
            warnings.simplefilter("ignore")
            client = distributed.Client(
                address,
                security=security,
                timeout=scheduler.wait,
                set_as_default=False,
                name="tio2nn",
            )
    except (OSError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"cannot reach the scheduler {address} within {scheduler.wait:g} s: {one_line(error)}"
        ) from None
    cluster = Cluster(client, scheduler, limit, say, warn)
    try:
        cluster.look()
        n = sum(cluster.threads().values())
        machines = len({host.machine for host in cluster.hosts.values()})
        say(
            f"scheduler {address}: {counted(len(cluster.hosts), 'worker')} with {counted(n, 'thread')} on "
            f"{counted(machines, 'machine')}"
        )
        yield cluster
    finally:
        cluster.leave()


def _differing(here: Host, hosts: Sequence[Host]) -> str:
    """What may make the last digits of numbers differ, or ""."""
    told = []
    processors: Mapping[str, set[str]] = {}
    for host in hosts:
        processors = {
            **processors,
            host.instructions: {*processors.get(host.instructions, set()), host.processor},
        }
    if len(processors) > 1:
        names = sorted(name for models in processors.values() for name in models)
        told.append(f"the workers have different processors ({', '.join(names)})")
    elif here.instructions not in processors:
        told.append(f"the workers have another processor than this machine ({hosts[0].processor})")
    names = [
        name
        for name in here.libraries
        if any(host.libraries.get(name) != here.libraries[name] for host in hosts)
    ]
    if names:
        told.append(f"other versions of {listed(names)} than here")
    if not told:
        return ""
    return f"{'; '.join(told)}: the last digits of results depend on who computed them"
