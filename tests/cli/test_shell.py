"""Commands as processes: pipes that close, disks that are full, Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import end, start, without_compile_notice
from projects import small_project, structures, trained_project, write_files

from tio2nn.version import __version__

LONGEST_END = 4.0  # s; two of them on a machine with nothing else to do


@pytest.mark.parametrize("reader", ["gone", "head"])
def test_a_reader_that_has_seen_enough_ends_predict_in_silence(tmp_path: Path, reader: str) -> None:
    files = write_files(tmp_path / "files", structures())
    project = trained_project(tmp_path / "p")
    # with the list repeated, the output is longer than the buffers of Python and of the pipe
    names = "\n".join(
        f"./{'./' * k}files/{path.name}" for k in range(1 if reader == "gone" else 60) for path in files
    )
    (tmp_path / "names").write_text(names, encoding="utf-8")
    with (tmp_path / "names").open(encoding="utf-8") as listed:
        process = start(tmp_path, "predict", "-", "--potential", project.potential_file, stdin=listed)
        assert process.stdout is not None
        if reader == "head":
            assert process.stdout.readline().startswith("# file\tn_atoms\tenergy_eV\t")
        process.stdout.close()
        assert process.stderr is not None
        err = without_compile_notice(process.stderr.read())
        process.stderr.close()
        assert process.wait(60) == 0
    assert [line for line in err.splitlines() if not line.startswith("warning: ")] == []


def test_work_goes_on_when_nobody_reads_the_messages(tmp_path: Path) -> None:
    project = small_project(tmp_path / "p")
    files = write_files(tmp_path / "files", structures())
    project.energies_file.unlink(missing_ok=True)
    reads, writes = os.pipe()
    os.close(reads)
    process = start(tmp_path, "extract", *files, "-C", project.root, stderr=writes)
    os.close(writes)
    assert process.wait(60) == 0
    assert project.energies_file.exists()
    assert process.stdout is not None
    process.stdout.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_stdout_ends_with_3_and_one_line(tmp_path: Path) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        code, _, err = end(start(tmp_path, "schema", stdout=full))
    assert (code, err) == (3, "stdout: No space left on device\n")


def test_ctrl_c_in_a_shell_ends_with_130_and_one_line(tmp_path: Path) -> None:
    project = small_project(tmp_path / "p").root
    process = start(tmp_path, "extract", "-", "-C", project, stdin=subprocess.PIPE)
    assert process.stdin is not None
    # more than the pipe holds, so it reads, and waits for more
    process.stdin.write("\n" * 300_000)
    process.stdin.flush()
    process.send_signal(signal.SIGINT)
    process.wait(60)
    assert (process.returncode, *end(process)[1:]) == (130, "", "interrupted; finished work is kept\n")


BUSY = """
import hashlib, sys
from tio2nn.cli.interrupt import end_soon_after_ctrl_c
end_soon_after_ctrl_c()
print("busy", flush=True)
hashlib.pbkdf2_hmac("sha256", b"one instruction", b"of many seconds", 10**8)
"""


def test_ctrl_c_ends_what_is_in_the_middle_of_one_long_instruction(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", BUSY], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "busy\n"
    time.sleep(0.5)  # and it is
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    code, _, err = end(process)
    assert (code, err) == (130, "interrupted; finished work is kept\n")
    assert time.monotonic() - begin < LONGEST_END


def test_ctrl_c_while_libraries_are_loaded_is_one_line_too(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", "tio2nn", "schema"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.endswith(" tio2nn.errors\n"):
            break
    process.stderr.readline()  # the watch begins behind that import, the last of __main__, and before the next
    process.send_signal(signal.SIGINT)
    code, _, err = end(process)
    said = [line for line in err.splitlines() if not line.startswith("import time:")]
    assert (code, said) == (130, ["interrupted; finished work is kept"])


BEFORE_ITS_COMMAND = """
import typer.core
def interrupted(*_, **__):
    raise KeyboardInterrupt
typer.core.TyperGroup.make_context = interrupted
from tio2nn.__main__ import main
main()
"""


def test_ctrl_c_while_the_command_line_is_read_is_one_line_too(tmp_path: Path) -> None:
    """Typer itself would end with 130 and say nothing."""
    ended = subprocess.run(
        [sys.executable, "-c", BEFORE_ITS_COMMAND], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert (ended.returncode, ended.stderr) == (130, "interrupted; finished work is kept\n")


@pytest.mark.slow
def test_output_is_utf_8_whatever_the_locale(tmp_path: Path) -> None:
    project = trained_project(tmp_path / "p")
    (file,) = write_files(tmp_path / "Å", structures()[:1])
    for encoding in ("ascii", "latin-1"):
        for arguments in (["status", "-C", "p"], ["predict", file, "--potential", project.potential_file]):
            ended = subprocess.run(
                [sys.executable, "-m", "tio2nn", *map(str, arguments)],
                env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
                capture_output=True,
                check=True,
                cwd=tmp_path,
            )
            assert ("×" if "status" in arguments else "Å") in (ended.stdout + ended.stderr).decode("utf-8")


def test_a_name_that_is_no_text_is_shown_with_escapes(tmp_path: Path) -> None:
    directory = tmp_path / os.fsdecode(b"p\xff")
    directory.mkdir()
    ended = subprocess.run(
        [sys.executable, "-m", "tio2nn", "status", "-C", directory],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (3, "")
    assert ended.stderr.startswith("no params.json in ")
    assert "p\\udcff" in ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2], ids=["here", "in workers"])
def test_ctrl_c_ends_a_training_within_two_seconds(tmp_path: Path, jobs: int) -> None:
    project = small_project(tmp_path / "p")
    process = start(tmp_path, "train", "-C", "p", "--members", 2, "--epochs", 10**6, "-j", jobs)
    for _ in range(600):
        if project.checkpoint_file(1).exists():
            break
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    code, out, err = end(process)
    assert (code, out, err.splitlines()[-1]) == (130, "", "interrupted; finished work is kept")
    assert "Traceback" not in err
    assert time.monotonic() - begin < LONGEST_END


def test_the_console_script_and_the_module_are_the_same_program(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("tio2nn")
    found = subprocess.run([script, "--version"], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert found.stdout == end(start(tmp_path, "--version"))[1] == f"tio2nn {__version__}\n"
