"""A folder is written whole, and replaces nothing but an earlier export."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import pytest

from tio2nn.errors import InputError
from tio2nn.export.folder import MARK, README, write_folder

FILES = {README: f"# Ti-O, {MARK} 1\n", "input.nn": "a\n", "nnp-1/weights.008.data": "b\n", "O.nn": b"\x00"}


def content(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def test_a_new_an_empty_and_an_exported_folder_are_written_and_nothing_of_the_old_stays(
    tmp_path: Path,
) -> None:
    new = tmp_path / "deep" / "down"
    write_folder(new, FILES)
    assert content(new) == {
        name: text if isinstance(text, bytes) else text.encode() for name, text in FILES.items()
    }
    (tmp_path / "empty").mkdir()
    write_folder(tmp_path / "empty", FILES)
    fewer = {README: FILES[README], "scaling.data": "c\n"}
    write_folder(new, fewer)
    assert set(content(new)) == set(fewer)
    assert [path.name for path in new.parent.iterdir()] == ["down"]


@pytest.mark.parametrize("name", ["notes.txt", "input.nn", "README.md", "data/structure.xsf"])
def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "d" / name).parent.mkdir(parents=True)
    (tmp_path / "d" / name).write_text("mine\n")
    before = content(tmp_path)
    with pytest.raises(
        InputError, match="expected a new or empty directory, or one with an earlier export, got"
    ):
        write_folder(tmp_path / "d", FILES)
    assert content(tmp_path) == before


@pytest.mark.parametrize("name", ["results.csv", "nnp-1/log.lammps", "deep/nnp-1/input.nn"])
def test_what_somebody_put_into_an_export_is_not_lost(tmp_path: Path, name: str) -> None:
    write_folder(tmp_path / "d", FILES)
    (tmp_path / "d" / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "d" / name).write_text("mine\n")
    with pytest.raises(InputError, match=f"got one that also has {name}"):
        write_folder(tmp_path / "d", FILES)
    assert (tmp_path / "d" / name).read_text() == "mine\n"


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "d").write_text("mine\n")
    with pytest.raises(InputError, match="got another kind of file"):
        write_folder(tmp_path / "d", FILES)
    assert (tmp_path / "d").read_text() == "mine\n"


@pytest.mark.parametrize("error", [OSError(5, "no luck"), KeyboardInterrupt()])
@pytest.mark.parametrize("after", range(5))
def test_a_folder_that_cannot_be_replaced_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, after: int
) -> None:
    write_folder(tmp_path / "d", FILES)
    before = content(tmp_path)
    renames: list[Path] = []
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        renames.append(self)
        if len(renames) == after + 1:
            raise error
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(type(error)):
        write_folder(tmp_path / "d", {README: FILES[README], "O.nn": "another\n"})
    assert content(tmp_path) == before
    monkeypatch.setattr(Path, "rename", rename)
    write_folder(tmp_path / "d", {README: FILES[README], "O.nn": "another\n"})
    assert (tmp_path / "d" / "O.nn").read_text(encoding="utf-8") == "another\n"
    assert sorted(path.name for path in (tmp_path / "d").iterdir()) == ["O.nn", README]


@pytest.mark.parametrize("error", [OSError(5, "no luck"), KeyboardInterrupt()])
def test_a_new_folder_that_cannot_be_put_in_place_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    monkeypatch.setattr(Path, "rename", Mock(side_effect=error))
    with pytest.raises(type(error)) as caught:
        write_folder(tmp_path / "d", FILES)
    if isinstance(caught.value, OSError):
        assert caught.value.filename == str(tmp_path / "d")
    assert list(tmp_path.iterdir()) == []
