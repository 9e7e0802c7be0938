from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from command_line import invoke, refusal, rows
from projects import PARAMETERS, structures, trained_project, write_files

from tio2nn.errors import InputError
from tio2nn.files.lock import FILE_NAME, HOLDER_NAME, Holder, locked
from tio2nn.files.lock import holder as holder_of
from tio2nn.project.project import Project

_HOLDER = """
import sys
from pathlib import Path
from tio2nn.files.lock import locked
with locked(Path(sys.argv[1]), "train"):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(directory: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock until its stdin ends."""
    command = [sys.executable, "-c", _HOLDER, str(directory)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process


def test_whoever_comes_second_hears_who_is_at_work(tmp_path: Path) -> None:
    with holder(tmp_path) as other:
        with pytest.raises(InputError) as caught, locked(tmp_path, "tune"):
            pass
        assert f"cannot start: tio2nn train (process {other.pid} on " in str(caught.value)
        assert str(caught.value).startswith(f"{tmp_path}: cannot start: ")


def test_a_lock_does_not_outlive_its_holder(tmp_path: Path) -> None:
    with holder(tmp_path) as other:
        other.send_signal(signal.SIGKILL)
        other.wait()
        with locked(tmp_path, "tune"):
            assert json.loads((tmp_path / HOLDER_NAME).read_text())["process"] == os.getpid()
    with locked(tmp_path, "tune"):
        pass


def test_a_worker_process_does_not_inherit_the_lock(tmp_path: Path) -> None:
    with locked(tmp_path, "featurize"):
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        with locked(tmp_path, "featurize"):
            pass
    finally:
        child.communicate(b"\n")


def test_a_holder_that_has_not_yet_said_who_it_is_is_believed(tmp_path: Path) -> None:
    with holder(tmp_path):
        (tmp_path / HOLDER_NAME).write_text("{")
        with (
            pytest.raises(InputError, match="cannot start: another command is running in this project;"),
            locked(tmp_path, "tune"),
        ):
            pass


def test_who_holds_a_lock_can_be_asked(tmp_path: Path) -> None:
    assert holder_of(tmp_path) is None
    assert list(tmp_path.iterdir()) == []
    with holder(tmp_path) as other:
        found = holder_of(tmp_path)
        assert found is not None
        assert (found.command, found.process, found.host) == ("train", other.pid, socket.gethostname())
    assert holder_of(tmp_path) is None
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_a_killed_process_holds_no_lock_although_its_note_stays(tmp_path: Path) -> None:
    with holder(tmp_path) as other:
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert (tmp_path / HOLDER_NAME).exists()
    assert holder_of(tmp_path) is None
    with locked(tmp_path, "tune"):
        # another's lock, although of this process
        assert holder_of(tmp_path) == _note(tmp_path)


def _note(directory: Path) -> Holder:
    return Holder(**json.loads((directory / HOLDER_NAME).read_text()))


def test_who_holds_a_lock_is_not_found_through_links_and_pipes(tmp_path: Path) -> None:
    project, elsewhere = tmp_path / "p", tmp_path / "elsewhere"
    project.mkdir()
    elsewhere.mkdir()
    with holder(elsewhere):
        (project / FILE_NAME).symlink_to(elsewhere / FILE_NAME)
        (project / HOLDER_NAME).symlink_to(elsewhere / HOLDER_NAME)
        assert holder_of(project) is None
        (project / HOLDER_NAME).unlink()
        (project / HOLDER_NAME).write_bytes((elsewhere / HOLDER_NAME).read_bytes())
        assert holder_of(project) is None
    (project / HOLDER_NAME).unlink()
    os.mkfifo(project / HOLDER_NAME)
    assert holder_of(project) is None


@pytest.mark.parametrize("text", ["", "[1]", '{"command": "train"}', "[" * 4096, "\xff" * 9])
def test_a_strange_note_names_nobody(tmp_path: Path, text: str) -> None:
    with holder(tmp_path):
        (tmp_path / HOLDER_NAME).write_text(text, encoding="latin-1")
        assert holder_of(tmp_path) is None


def test_a_note_is_written_through_no_link_and_removed_with_the_lock(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("what its owner needs")
    (tmp_path / HOLDER_NAME).symlink_to(victim)
    with locked(tmp_path, "tune"):
        assert _note(tmp_path).command == "tune"
        assert not (tmp_path / HOLDER_NAME).is_symlink()
    assert victim.read_text() == "what its owner needs"
    assert not (tmp_path / HOLDER_NAME).exists()


def test_a_lock_that_is_only_looked_at_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([False, True])
    monkeypatch.setattr("filelock.lock_descriptor", lambda *_, **__: next(answers))
    with locked(tmp_path, "tune") as is_alone:
        assert is_alone


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EBADF])
def test_a_file_system_without_locks_is_no_reason_to_refuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def without_locks(*_: object, **__: object) -> bool:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("filelock.lock_descriptor", without_locks)
    with locked(tmp_path, "tune") as is_alone:
        assert not is_alone
        assert holder_of(tmp_path) is None


@pytest.mark.parametrize("command", ["extract", "featurize", "tune", "train", "evaluate", "run"])
def test_every_command_that_writes_refuses_a_project_where_another_is_at_work(
    tmp_path: Path, command: str
) -> None:
    project = Project.create(tmp_path / "p", PARAMETERS)
    source = ["nothing.xsf"] if command in ("extract", "run") else []
    with holder(project.root):
        message = refusal(command, *source, "-C", project.root, code=3)
    assert message.startswith(f"{project.root}: cannot start: tio2nn train")


def test_reading_commands_do_not_wait(tmp_path: Path) -> None:
    project = trained_project(tmp_path / "p")
    files = write_files(tmp_path / "files", structures()[:2])
    with holder(project.root):
        invoke("status", "-C", project.root)
        table, _ = invoke("predict", *files, "--potential", project.potential_file)
    assert len(rows(table)) == 1 + len(files)


# --- what killed commands left unfinished -------------------------------------------------------------------

_KILLED_WRITING = """
import os, signal, sys
from pathlib import Path
from tio2nn.files.atomic import atomic_path
with atomic_path(Path(sys.argv[1])):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def leave_unfinished(path: Path) -> Path:
    """A process that is killed while it writes `path`; what it leaves."""
    path.parent.mkdir(parents=True, exist_ok=True)
    before = set(path.parent.iterdir())
    ended = subprocess.run([sys.executable, "-c", _KILLED_WRITING, str(path)], check=False)
    assert ended.returncode == -signal.SIGKILL
    (left,) = set(path.parent.iterdir()) - before
    return left


def test_who_holds_the_lock_removes_what_killed_commands_left(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "p", PARAMETERS)
    left = [
        leave_unfinished(path)
        for path in (
            project.energies_file,
            project.network_file(2),
            project.other_evaluation_directory / "metrics.json",
        )
    ]
    others = [
        project.root / name for name in (".notes.12345678.part.txt", "model.part", ".energies.csv.part")
    ]
    others.append(project.model_directory / ".party")
    others.append(leave_unfinished(project.parameters_file))  # init does not ask for the lock
    for other in others:
        other.touch()
    with locked(project.root, "extract"), pytest.raises(InputError), project.locked("train"):
        pass
    assert all(path.exists() for path in left)
    with project.locked("train"):
        assert not any(path.exists() for path in left)
    assert all(path.exists() for path in others)


def test_without_locks_nothing_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project.create(tmp_path / "p", PARAMETERS)
    left = leave_unfinished(project.energies_file)
    monkeypatch.setattr("tio2nn.files.lock._take", lambda _: None)
    with project.locked("train"):
        assert left.exists()
