"""Commands on a disk that is full; run as a program, on a real one: `unshare -rm python full_disk.py DIR N COMMAND...`.

DIR is where the disk is mounted; what is printed are the files that N runs of each command could not write, as JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from unittest import mock

from commands import COMMANDS, Content
from projects import small_project, structures, trained_project, write_files
from typer.testing import CliRunner

from tio2nn.cli.commands import app
from tio2nn.files.arrays import write_arrays
from tio2nn.project.project import Project

_PAGE = 4096
_DISK = "4m"


@contextmanager
def largest_file(n_bytes: int) -> Iterator[None]:
    """No file may grow beyond this: what a full disk is to a program, without the rights to make one."""
    import resource  # which not every system has

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def write_beyond_a_limit(path: Path) -> None:
    with largest_file(100):
        write_arrays(path, {"x": list(range(1000))})


def predictions_of(project: Project) -> object:
    return {path.name: path.read_bytes() for path in sorted((project.root / "predicted").iterdir())}


def evaluation_of(project: Project) -> object:
    return project.residuals_file.read_bytes()


def trained_beside_files(root: Path) -> Project:
    project = trained_project(root)
    write_files(root.parent / "files", structures()[:6])
    return project


QUICK = ("extract", "featurize", "featurize with forces", "predict")
SLOW = ("evaluate", "train", "tune")
Case = tuple[Callable[[Path], Project], tuple[object, ...], Content]
CASES: dict[str, Case] = {
    **{name: COMMANDS[name] for name in QUICK[:3]},
    "predict": (trained_beside_files, ("predict", "files", "-f", "xsf", "-o"), predictions_of),
    "evaluate": (trained_project, ("evaluate",), evaluation_of),
    "train": (
        small_project,
        ("train", "--epochs", 1, "--members", 2, "-j", 1),
        COMMANDS["train"][2],
    ),
    "tune": (
        small_project,
        ("tune", "--max-trials", 1, "--epochs", 1, "-j", 1),
        COMMANDS["tune"][2],
    ),
}


def run(root: Path, arguments: tuple[object, ...]) -> tuple[int, str]:
    """Exit code and what was written to stderr."""
    if arguments[-1] == "-o":
        arguments = (*arguments, root / "predicted")
    ended = CliRunner().invoke(app, [*map(str, arguments), "-C", str(root)])
    return ended.exit_code, ended.stderr


def walk(
    here: Path,
    name: str,
    limits: Callable[[Sequence[int]], Sequence[int]],
    limited: Callable[[int], AbstractContextManager[None]],
    disk: Path | None = None,
) -> set[str]:
    """Run a command on disks of several sizes, and after each run again with space enough.

    Args:
        here: an empty directory.
        name: of the command, in `CASES`.
        limits: the sizes to try, from those of the files that the command makes.
        limited: makes the disk as small.
        disk: where the project lies; `here` by default.

    Returns:
        The files that could not be written, each of them named by a run that ended with exit code 3.
    """
    make, arguments, content = CASES[name]
    made = make(here / "made").root
    os.chdir(here)
    whole, tried = here / "whole", (disk or here) / "tried"
    shutil.copytree(made, whole)
    code, err = run(whole, arguments)
    assert code == 0, err
    expected = content(Project(whole))
    old = {path.relative_to(made) for path in made.rglob("*")}
    made_files = [p for p in whole.rglob("*") if p.is_file() and p.relative_to(whole) not in old]
    blamed = set()
    for limit in limits([path.stat().st_size for path in made_files]):
        shutil.rmtree(tried, ignore_errors=True)
        shutil.copytree(made, tried)
        with limited(limit):
            code, err = run(tried, arguments)
        if code != 0:
            last = err.splitlines()[-1]
            assert code == 3, (name, limit, err)
            assert "Traceback" not in err, (name, limit, err)
            assert last.endswith((": No space left on device", ": File too large")), (name, limit, err)
            blamed.add(last.rpartition(": ")[0].removeprefix(f"{tried}/"))
            parts = [path for path in tried.rglob("*") if ".part" in path.name]
            assert parts == [], (name, limit, parts)
        code, err = run(tried, arguments)
        assert code == 0, (name, limit, err)
        assert content(Project(tried)) == expected, (name, limit)
    return blamed


def _walk_on_a_real_disk(place: Path, n_sizes: int, names: Sequence[str]) -> Iterator[str]:
    disk, ballast = place / "disk", place / "disk" / "ballast"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "none", disk], check=True)

    @contextmanager
    def limited(n_pages: int) -> Iterator[None]:
        state = os.statvfs(disk)
        ballast.write_bytes(bytes(max(0, state.f_bavail * state.f_frsize - _PAGE * n_pages)))
        yield
        ballast.unlink()

    def sizes(of_files: Sequence[int]) -> list[int]:
        # and the note of who holds the lock, which goes when the command ends
        needed = 1 + sum(-(-size // _PAGE) for size in of_files)
        return sorted({needed * k // n_sizes for k in range(n_sizes)})

    for name in names:
        here = place / name
        here.mkdir()
        yield from (f"{name}: {file}" for file in walk(here, name, sizes, limited, disk))


def main() -> None:
    place, n_sizes, names = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    # it would end the command before a file is full
    with mock.patch("tio2nn.workflow.differentiate._require_disk"):
        sys.stdout.write(json.dumps(sorted(_walk_on_a_real_disk(place, n_sizes, names))))


if __name__ == "__main__":
    main()
