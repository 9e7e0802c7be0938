"""A project, and an installation, that may be read but not written."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from command_line import end, rows, start
from projects import structures, trained_project, write_files
from rights import can_give_up_rights, give_up_rights

from tio2nn.files.lock import FILE_NAME, locked

if sys.platform == "win32":
    pytest.skip("permissions as POSIX has them", allow_module_level=True)

_N_FILES = 3


@pytest.fixture
def bound_by_permissions(tmp_path: Path) -> Callable[[], None] | None:
    """What a process does before it starts a program that permissions hold for."""
    if os.geteuid() != 0:
        return None
    if not can_give_up_rights():
        pytest.skip("root that cannot give up its rights")
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    touch = ["touch", locked / "x"]
    assert subprocess.run(touch, preexec_fn=give_up_rights, check=False, capture_output=True).returncode != 0
    return give_up_rights


def _set_writable(root: Path, *, writable: bool) -> None:
    for path in [root, *root.rglob("*")]:
        mode = path.stat().st_mode & 0o7555
        path.chmod(mode | 0o200 if writable else mode)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """`p`, trained but not evaluated, that cannot be written; beside it `files`."""
    write_files(tmp_path / "files", structures()[:_N_FILES])
    root = trained_project(tmp_path / "p").root
    _set_writable(root, writable=False)
    yield root
    _set_writable(root, writable=True)


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, project: Path, bound_by_permissions: Callable[[], None] | None) -> Run:  # noqa: ARG001
    def run(*arguments: object) -> tuple[int, str, str]:
        return end(start(tmp_path, *arguments, "-C", "p", preexec_fn=bound_by_permissions))

    return run


def test_status_predictions_and_what_is_done_already_need_no_right_to_write(run: Run) -> None:
    code, out, err = run("status")
    assert (code, err) == (0, "")
    assert "potential" in out or "model" in out
    code, out, err = run("predict", "files")
    assert code == 0, err
    assert len(rows(out)) == 1 + _N_FILES
    code, out, err = run("predict", "--forces", "files")
    assert code == 0, err
    assert len(rows(out)) == 1 + sum(s.n_atoms for s in structures()[:_N_FILES])
    code, out, err = run("featurize")
    assert (code, out) == (0, "")
    assert "nothing to do" in err


@pytest.mark.parametrize(
    ("arguments", "file"),
    [
        (("evaluate",), "p/evaluation"),
        pytest.param(("evaluate", "files"), "p/evaluation", marks=pytest.mark.slow),
        (("extract", "files"), "p/structures/structures.npz"),
        (("featurize", "--csv"), "p/features/sym0001.csv"),
        pytest.param(("tune", "--max-trials", 1, "--epochs", 1), "p/tuning", marks=pytest.mark.slow),
        pytest.param(("train", "--epochs", 1), "p/model/checkpoint-1.npz", marks=pytest.mark.slow),
        pytest.param(
            ("predict", "files", "-f", "xsf", "-o", "p/predicted"), "p/predicted", marks=pytest.mark.slow
        ),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_what_has_to_be_written_is_refused_in_one_line(
    run: Run, arguments: tuple[object, ...], file: str
) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (3, ""), err
    assert err.splitlines()[-1] == f"{file}: Permission denied"
    assert "Traceback" not in err


# --- the machine code of the compiled loops ------------------------------------------------------------------


_LOOP = """
from tio2nn.descriptors.kernels.compiling import compiled_once

@compiled_once()
def twice(x):
    return 2 * x
"""


# a place of its own for machine code, and a way not to look for modules where a program begins
_NOT_INHERITED = ("NUMBA_CACHE_DIR", "PYTHONSAFEPATH")


def _run_loop(here: Path, home: Path, preexec: Callable[[], None] | None) -> str:
    environment = {key: value for key, value in os.environ.items() if key not in _NOT_INHERITED}
    environment |= {"HOME": str(home), "XDG_CACHE_HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", "from loop import twice; print(twice(21))"]
    ended = subprocess.run(
        command, cwd=here, env=environment, preexec_fn=preexec, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    return ended.stdout


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Path]:
    """A folder with a module, and a home, that cannot be written."""
    for name in ("module", "home"):
        (tmp_path / name).mkdir()
    (tmp_path / "module" / "loop.py").write_text(_LOOP, encoding="utf-8")
    _set_writable(tmp_path / "module", writable=False)
    _set_writable(tmp_path / "home", writable=False)
    yield tmp_path
    _set_writable(tmp_path / "module", writable=True)
    _set_writable(tmp_path / "home", writable=True)


def machine_code(directory: Path) -> list[Path]:
    return list(directory.rglob("*.nbc"))


def test_loops_of_a_read_only_installation_are_kept_in_the_home_of_the_user(
    loop: Path, bound_by_permissions: Callable[[], None] | None
) -> None:
    _set_writable(loop / "home", writable=True)
    assert _run_loop(loop / "module", loop / "home", bound_by_permissions) == "42\n"
    assert machine_code(loop / "home")
    assert not machine_code(loop / "module")


def test_loops_are_compiled_where_nothing_can_be_written(
    loop: Path, bound_by_permissions: Callable[[], None] | None
) -> None:
    assert _run_loop(loop / "module", loop / "home", bound_by_permissions) == "42\n"
    assert not machine_code(loop)


def test_loops_are_compiled_where_the_disk_is_full(loop: Path) -> None:
    import resource

    _set_writable(loop / "home", writable=True)
    _set_writable(loop / "module", writable=True)
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (0, 0))
    assert _run_loop(loop / "module", loop / "home", limit) == "42\n"
    assert not machine_code(loop)


def test_a_lock_file_of_somebody_else_is_heeded(
    tmp_path: Path, bound_by_permissions: Callable[[], None] | None
) -> None:
    attempt = (
        "from pathlib import Path; from tio2nn.files.lock import locked\nwith locked(Path('.'), 'x'): pass"
    )
    with locked(tmp_path, "train"):
        (tmp_path / FILE_NAME).chmod(0o444)
        ended = subprocess.run(
            [sys.executable, "-c", attempt],
            cwd=tmp_path,
            preexec_fn=bound_by_permissions,
            capture_output=True,
            text=True,
            check=False,
        )
    assert "cannot start: tio2nn train" in ended.stderr


def test_who_is_at_work_can_be_asked_without_the_right_to_write(
    tmp_path: Path, bound_by_permissions: Callable[[], None] | None
) -> None:
    question = "from pathlib import Path; from tio2nn.files.lock import holder; print(holder(Path('.')))"
    project = tmp_path / "p"
    project.mkdir()
    with locked(project, "train"):
        _set_writable(project, writable=False)
        before = sorted(project.iterdir())
        answer = subprocess.run(
            [sys.executable, "-c", question],
            cwd=project,
            preexec_fn=bound_by_permissions,
            capture_output=True,
            text=True,
            check=True,
        )
        assert sorted(project.iterdir()) == before
        _set_writable(project, writable=True)
    assert answer.stdout.startswith(f"tio2nn train (process {os.getpid()} on ")
