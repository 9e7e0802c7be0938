from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tio2nn.files.atomic import atomic_folder, atomic_path, atomic_write


def test_text_is_utf8_with_the_line_ends_that_were_written(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "table.csv") as handle:
        handle.write("Å\n")
    assert (tmp_path / "table.csv").read_bytes() == "Å\n".encode()


def test_bytes_are_written_and_missing_folders_made(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "a" / "b" / "data.npz", "wb") as handle:
        handle.write(b"\x00\r\n")
    assert (tmp_path / "a" / "b" / "data.npz").read_bytes() == b"\x00\r\n"


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")

    def write_half() -> None:
        with atomic_write(path) as handle:
            handle.write("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")
    with atomic_write(path) as handle:
        handle.write("new")
        handle.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.skipif(os.name != "posix", reason="permissions as POSIX has them")
def test_permissions_are_those_of_an_ordinary_file_or_of_the_one_replaced(tmp_path: Path) -> None:
    ordinary, new, kept = tmp_path / "ordinary", tmp_path / "new", tmp_path / "kept"
    ordinary.write_text("")
    kept.write_text("")
    kept.chmod(0o640)
    for path in (new, kept):
        with atomic_write(path) as handle:
            handle.write("x")
    assert new.stat().st_mode == ordinary.stat().st_mode
    assert kept.stat().st_mode & 0o777 == 0o640


def test_a_library_that_opens_its_files_itself_finds_the_suffix_and_leaves_nothing_after_an_error(
    tmp_path: Path,
) -> None:
    path = tmp_path / "network.keras"
    with atomic_path(path) as temporary:
        assert (temporary.suffix, temporary.parent) == (".keras", tmp_path)
        temporary.write_bytes(b"whole")

    def write_half() -> None:
        with atomic_path(path) as temporary:
            temporary.write_bytes(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        write_half()
    assert path.read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_without_a_file_is_given_that_of_the_file_and_others_keep_theirs(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    with pytest.raises(OSError, match="No space left") as caught, atomic_write(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.filename == str(path)
    with pytest.raises(FileNotFoundError) as missing, atomic_write(path):
        (tmp_path / "source").open()
    assert missing.value.filename == str(tmp_path / "source")
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file") as wrong, atomic_write(tmp_path / "file" / "table.csv"):
        pass
    assert ".part" not in str(wrong.value)


def test_an_empty_folder_that_is_there_stays_and_is_filled(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir(0o750)
    before = folder.stat()
    with atomic_folder(folder) as new:
        (new / "b").mkdir()
        (new / "a").write_text("1")
        assert [path.suffix for path in folder.iterdir()] == [".part"]
    assert sorted(path.name for path in folder.iterdir()) == ["a", "b"]
    assert (folder.stat().st_ino, folder.stat().st_mode) == (before.st_ino, before.st_mode)


def test_a_folder_is_left_as_it_was_after_an_error_or_if_it_is_not_empty(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()

    def fill(error: BaseException | None) -> None:
        with atomic_folder(folder) as new:
            (new / "a").write_text("1")
            if error is not None:
                raise error

    with pytest.raises(KeyboardInterrupt):
        fill(KeyboardInterrupt())
    assert list(folder.iterdir()) == []
    (folder / "old").touch()
    with pytest.raises(OSError, match="not empty") as caught:
        fill(None)
    assert caught.value.filename == str(folder)
    assert [path.name for path in folder.iterdir()] == ["old"]


def test_a_link_that_leads_nowhere_is_an_error_of_the_system(tmp_path: Path) -> None:
    link = tmp_path / "d"
    link.symlink_to(link)
    with pytest.raises(NotADirectoryError), atomic_folder(link):
        pass
