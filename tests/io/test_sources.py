from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from archives import archive_bytes
from memory import peak_bytes

from tio2nn.errors import InputError
from tio2nn.io import expanding
from tio2nn.io.formats import XSF
from tio2nn.io.read import read_structures
from tio2nn.io.sources import SourceFile, iter_source_files

TEXT = b"ATOMS\nO 0 0 0\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory of a test."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(*names: str) -> None:
    for name in names:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        compress = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}.get(path.suffix, bytes)
        path.write_bytes(compress(TEXT))


def read(*names: str, stdin: Iterable[str] = ()) -> tuple[list[str], list[str]]:
    """Files that were found with the expected content, and complaints."""
    found, complaints = [], []
    for item in iter_source_files(names, stdin):
        if isinstance(item, InputError):
            complaints.append(str(item))
            continue
        try:
            assert item.whole() == TEXT
            found.append(item.file)
        except InputError as error:
            complaints.append(str(error))
        except (OSError, EOFError) as error:
            complaints.append(f"{item.file}: {error}")
    return found, complaints


def test_a_folder_is_searched_for_structure_files_in_the_order_of_names() -> None:
    make(
        "d/x10.xsf", "d/x9.xsf", "d/a/b/c.xyz.gz", "d/m.extxyz", "d/CAPITALS.XSF", "d/README.txt", "d/x.axsf"
    )
    found = ["d/CAPITALS.XSF", "d/a/b/c.xyz.gz", "d/m.extxyz", "d/x9.xsf", "d/x10.xsf", "d/x.axsf"]
    assert read("d") == (found, [])


def test_hidden_files_in_folders_and_archives_are_left_out() -> None:
    make("d/.x.xsf", "d/.git/x.xsf", "d/y.xsf")
    Path("t.tar").write_bytes(archive_bytes([("./d/._y.xsf", b"?"), (".d/y.xsf", b"?"), ("./d/y.xsf", TEXT)]))
    assert read("d", "t.tar") == (["d/y.xsf", "t.tar:d/y.xsf"], [])


def test_a_file_that_is_named_is_tried_by_its_suffix() -> None:
    make("x.axsf", "y.xsf.gz", "z.xsf.bz2", "w.xsf.xz")
    for name in ("notes.txt", "bare"):
        Path(name).write_text("no structure\n")
    Path("x.zip").write_bytes(b"PK\x03\x04")
    Path("x.dat").write_bytes(gzip.compress(TEXT))
    found, complaints = read(
        *("x.axsf", "y.xsf.gz", "z.xsf.bz2", "w.xsf.xz", "notes.txt", "bare", "x.zip", "x.dat")
    )
    assert found == ["x.axsf", "y.xsf.gz", "z.xsf.bz2", "w.xsf.xz"]
    expected = 'expected a structure file (formats: "tio2nn extract --formats") or a tar archive'
    assert complaints == [
        f"notes.txt: {expected}, got the suffix '.txt' and content of no known format",
        f"bare: {expected}, got no suffix and content of no known format",
        f"x.zip: {expected}, got a zip archive: unpack it",
        f"x.dat: {expected}, got data compressed by gzip: add .gz to its name",
    ]


def test_patterns_find_what_a_shell_would_find() -> None:
    make("d/x1.xsf", "d/x2.xsf", "d/.x3.xsf", "d/e/x4.xsf", "x[1].xsf")
    assert read("d/x*.xsf") == (["d/x1.xsf", "d/x2.xsf"], [])
    assert read("d/**/x?.xsf") == (["d/e/x4.xsf", "d/x1.xsf", "d/x2.xsf"], [])
    assert read(f"{Path.cwd()}/d/x[13].xsf") == ([f"{Path.cwd()}/d/x1.xsf"], [])
    assert read("x[1].xsf") == (["x[1].xsf"], [])
    assert read("y*.xsf") == ([], ["y*.xsf: no file matches this pattern"])


def test_each_file_is_read_once_however_often_it_is_named() -> None:
    make("d/x.xsf", "d/y.xsf")
    assert read("d/y.xsf", "d", "./d/../d/x.xsf", "d/*.xsf") == (["d/y.xsf", "d/x.xsf"], [])


def test_a_dash_reads_names_from_a_list() -> None:
    make("d/x.xsf", "y.xsf", "a b.xsf")
    found, complaints = read("-", stdin=["d\n", "\n", "y.xsf\r\n", "a b.xsf\n", "none.xsf"])
    assert found == ["d/x.xsf", "y.xsf", "a b.xsf"]
    assert complaints == ["none.xsf: no such file or folder"]


def test_a_list_of_names_may_begin_with_a_byte_order_mark() -> None:
    make("x.xsf", "y.xsf")
    as_bytes = "\ufeff".encode().decode("ascii", "surrogateescape")
    for mark in ("\ufeff", as_bytes):
        assert read("-", stdin=[f"{mark}x.xsf\n", "y.xsf\n"]) == (["x.xsf", "y.xsf"], [])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            "# total energy = -1.0 eV\n\nMOLECULE\nPRIMCOORD\n1 1\nTi 0 0 0 0 0 0\n",
            "the content of a file (XSF); give its name",
        ),
        (
            "\n\nMOLECULE\nPRIMCOORD\n1 1\nTi 0 0 0 0 0 0\n",
            "the content of a file (XSF); give its name",
        ),
        (
            "2\nenergy=1.0\nTi 0.0 0.0 0.0\nO 0.0 0.0 2.0\n",
            "the content of a file (extended XYZ); give its name",
        ),
        (gzip.compress(b"Ti 0 0 0\n" * 99, mtime=0).decode("utf-8", "surrogateescape"), "binary data"),
        ("\udcff\udcfe[a]\n\x02\x00\n", "binary data"),
        ("x.xsf\0y.xsf\0", "binary data"),
    ],
)
def test_what_is_not_names_is_one_error(content: str, told: str) -> None:
    found, complaints = read("-", stdin=content.splitlines(keepends=True))
    assert found == []
    assert complaints == [f"-: expected file names, one per line, got {told}"]


def test_names_are_read_as_they_come_while_they_are_files() -> None:
    make("x.xsf")

    def lines() -> Iterator[str]:
        yield "x.xsf\n"
        raise AssertionError("the next line is asked for too early")

    first = next(iter(iter_source_files(["-"], stdin=lines())))
    assert isinstance(first, SourceFile)


def test_an_empty_list_is_an_error() -> None:
    assert read("-") == ([], ["-: expected file names, one per line, got none"])


def test_the_standard_input_is_the_list_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    make("x.xsf")
    monkeypatch.setattr("sys.stdin", io.StringIO("x.xsf\n"))
    (item,) = iter_source_files(["-"])
    assert isinstance(item, SourceFile)
    assert (item.file, item.format) == ("x.xsf", XSF)


def test_a_folder_without_structures_is_an_error() -> None:
    make("d/notes.txt")
    expected = 'expected structure files (formats: "tio2nn extract --formats") in this folder, got none'
    assert read("d") == ([], [f"d: {expected}"])


def test_a_file_that_cannot_be_read_does_not_stop_the_others() -> None:
    make("d/x.xsf", "d/z.xsf")
    Path("d/y.xsf").symlink_to("nowhere")
    Path("d/w.xsf.gz").write_bytes(gzip.compress(TEXT)[:-9])
    found, complaints = read("d")
    assert found == ["d/x.xsf", "d/z.xsf"]
    assert [complaint.split(":")[0] for complaint in complaints] == ["d/w.xsf.gz", "d/y.xsf"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes as POSIX has them")
def test_what_is_no_regular_file_is_named_and_not_waited_for() -> None:
    make("d/x.xsf")
    os.mkfifo("d/y.xsf")
    os.mkfifo("d/z.tar")
    Path("d/link.xyz.gz").symlink_to("y.xsf")
    Path("zero.xsf").symlink_to("/dev/zero")
    pipe = "expected a regular file, got a named pipe"
    assert read("d") == (["d/x.xsf"], [f"d/link.xyz.gz: {pipe}", f"d/y.xsf: {pipe}"])
    assert read("d/y.xsf", "d/z.tar") == ([], [f"d/y.xsf: {pipe}", f"d/z.tar: {pipe}"])
    assert read("zero.xsf") == ([], ["zero.xsf: expected a regular file, got a device"])


@pytest.mark.parametrize(
    ("name", "compress"),
    [
        ("t.tar", bytes),
        ("t.tar.gz", gzip.compress),
        ("t.tgz", gzip.compress),
        ("t.tar.bz2", bz2.compress),
        ("t.tar.xz", lzma.compress),
        ("t.TAR.GZ", bz2.compress),
    ],
)
def test_archives_are_read_without_being_unpacked(name: str, compress: Callable[[bytes], bytes]) -> None:
    content = [
        ("README", b"?"),
        ("d/b.xsf", TEXT),
        ("d/a.xyz.gz", gzip.compress(TEXT)),
        ("big.bin", bytes(3000)),
    ]
    Path(name).write_bytes(compress(archive_bytes(content)))
    assert read(name) == ([f"{name}:d/b.xsf", f"{name}:d/a.xyz.gz"], [])
    assert [path.name for path in Path.cwd().iterdir()] == [name]


def test_members_that_are_no_regular_files_are_named_and_not_followed() -> None:
    make("secret.xsf")
    kinds = {
        "symlink": (tarfile.SYMTYPE, "a symbolic link"),
        "hard": (tarfile.LNKTYPE, "a hard link"),
        "pipe": (tarfile.FIFOTYPE, "a named pipe"),
        "device": (tarfile.CHRTYPE, "a device"),
        "disk": (tarfile.BLKTYPE, "a device"),
        "sparse": (tarfile.GNUTYPE_SPARSE, "a sparse file"),
    }
    with tarfile.open("t.tar", "w") as tar:
        members = [*kinds.items(), ("folder", (tarfile.DIRTYPE, "")), (".hidden", (tarfile.FIFOTYPE, ""))]
        for name, (kind, _) in members:
            member = tarfile.TarInfo(f"{name}.xsf")
            member.type, member.linkname = kind, "secret.xsf"
            tar.addfile(member)
        tar.add("secret.xsf", "d.xsf")
    complaints = [f"t.tar:{name}.xsf: expected a regular file, got {got}" for name, (_, got) in kinds.items()]
    assert read("t.tar") == (["t.tar:d.xsf"], complaints)


def test_an_archive_of_links_alone_is_not_called_empty_as_well() -> None:
    Path("t.tar").write_bytes(archive_bytes([("x.xsf", None)]))
    assert read("t.tar") == ([], ["t.tar:x.xsf: expected a regular file, got a symbolic link"])


def test_an_archive_without_structures_is_an_error() -> None:
    Path("t.tar").write_bytes(archive_bytes([("README", b"?")]))
    (complaint,) = read("t.tar")[1]
    assert complaint.startswith("t.tar: expected structure files")


def test_a_member_that_comes_twice_is_read_once_and_reported() -> None:
    Path("t.tar").write_bytes(archive_bytes([("x.xsf", TEXT), ("./x.xsf", TEXT)]))
    assert read("t.tar") == (
        ["t.tar:x.xsf"],
        ["t.tar:x.xsf: expected each member once, got a second one with this name"],
    )


MEMBERS = [(f"{name}.xsf", TEXT) for name in "abcd"]


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("part", [0.1, 0.3, 0.5, 0.7, 0.8])
def test_an_archive_cut_anywhere_is_reported(compress: Callable[[bytes], bytes], part: float) -> None:
    # four members of two blocks each and the end mark, two blocks of zeros
    whole = compress(archive_bytes(MEMBERS)[: 10 * 512])
    Path("t.tar").write_bytes(whole[: int(part * len(whole))])
    found, complaints = read("t.tar")
    assert found == [f"t.tar:{name}.xsf" for name in "abcd"][: len(found)]
    assert complaints
    assert all(complaint.startswith(("t.tar: expected ", "t.tar: cannot read ")) for complaint in complaints)


def test_an_archive_that_is_damaged_in_the_middle_is_reported() -> None:
    content = bytearray(archive_bytes(MEMBERS))
    content[1024 + 10] ^= 1
    Path("t.tar").write_bytes(content)
    assert read("t.tar") == (
        ["t.tar:a.xsf"],
        ["t.tar: expected the end mark of a tar archive, got other data: truncated?"],
    )


def test_what_is_no_archive_is_reported() -> None:
    Path("t.tar.bz2").write_bytes(TEXT)
    (complaint,) = read("t.tar.bz2")[1]
    assert complaint == "t.tar.bz2: expected a tar archive, as the name says, got XSF: rename it"


def test_sizes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expanding, "LARGEST_FILE", 2**20)
    large = TEXT + bytes(2**20)
    Path("large.xsf").write_bytes(large)
    Path("large.xyz.gz").write_bytes(gzip.compress(large))
    Path("t.tar").write_bytes(
        archive_bytes([("a.xsf.gz", gzip.compress(large)), ("b.xsf", large), ("c.xsf", TEXT)])
    )
    found, complaints = read("large.xsf", "large.xyz.gz", "t.tar")
    assert found == ["t.tar:c.xsf"]
    files = ["large.xsf", "large.xyz.gz", "t.tar:a.xsf.gz", "t.tar:b.xsf"]
    assert complaints == [f"{file}: expected at most 1 MB, got a larger file" for file in files]


def test_the_error_of_a_large_file_does_not_keep_its_content(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expanding, "LARGEST_FILE", 2**20)
    Path("large.xsf").write_bytes(TEXT + bytes(2**20))
    files = iter_source_files("large.xsf")
    item = next(files)
    assert isinstance(item, SourceFile)
    with pytest.raises(InputError) as caught:
        item.whole()
    kept = [value for frame, _ in traceback.walk_tb(caught.tb) for value in frame.f_locals.values()]
    assert not any(isinstance(value, bytes) and len(value) > 2**20 for value in kept)


def test_a_file_that_takes_too_much_memory_to_expand_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise MemoryError

    monkeypatch.setattr(lzma.LZMAFile, "read", fail)
    make("a.xsf.xz", "b.xsf")
    problem = "a.xsf.xz: cannot read the file: expanding it takes more memory than there is"
    items = list(read_structures(["a.xsf.xz", "b.xsf"], errors="yield"))
    assert [str(item) for item in items if isinstance(item, InputError)] == [problem]
    assert len(items) == 2


def test_an_archive_that_expands_without_end_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expanding, "_ALWAYS_ALLOWED", 2**20)
    bomb = bz2.compress(archive_bytes([("a.xsf", TEXT), ("zeros.bin", bytes(2**24)), ("b.xsf", TEXT)]))
    Path("t.tar.bz2").write_bytes(bomb)
    assert read("t.tar.bz2") == (
        ["t.tar.bz2:a.xsf"],
        ["t.tar.bz2: expected an archive of at most 1 MB when unpacked, got a larger one"],
    )


def test_a_header_that_expands_without_end_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expanding, "LARGEST_FILE", 2**20)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo("a" * 2**21 + ".xsf"))
    Path("t.tar.gz").write_bytes(gzip.compress(stream.getvalue()))
    assert read("t.tar.gz")[1][0] == "t.tar.gz: expected at most 1 MB, got a larger file"


def test_strange_names_are_shown_on_one_line() -> None:
    make("d/a\nb\x1b.xsf")
    assert read("d") == (["d/a\\nb\\x1b.xsf"], [])


def test_an_archive_is_read_without_remembering_its_members(tmp_path: Path) -> None:
    n = 4000
    path = tmp_path / "many.tar"
    path.write_bytes(archive_bytes((f"s{k}.xsf", b"x") for k in range(n)))
    found = 0

    def read() -> None:
        nonlocal found
        for _ in iter_source_files([path]):
            found += 1

    # the names that were seen, and what reading holds whatever the size of the archive
    assert peak_bytes(read) < 350 * n + 300_000
    assert found == n


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.tar", b"PK\x03\x04" + bytes(600), "a zip archive: unpack it"),
        ("a.tar.gz", b"PK\x03\x04" + bytes(600), "a zip archive: unpack it"),
        ("a.tbz2", b"7z\xbc\xaf\x27\x1c" + bytes(600), "a 7z archive: unpack it"),
        ("a.tar", b"Rar!\x1a\x07" + bytes(600), "a RAR archive: unpack it"),
        ("a.tar.xz", b"\x28\xb5\x2f\xfd" + bytes(600), "data compressed by zstd: unpack it"),
        ("a.tgz", gzip.compress(bz2.compress(bytes(600))), "data compressed twice: unpack it"),
        ("a.tar", b"ATOMS\nO 0 0 0\n" * 60, "XSF: rename it"),
        ("a.tar.gz", gzip.compress(b"ATOMS\nO 0 0 0\n" * 60), "XSF compressed by gzip: rename it"),
    ],
)
def test_what_lies_under_the_name_of_an_archive_is_told(name: str, content: bytes, told: str) -> None:
    Path(name).write_bytes(content)
    assert read(name) == ([], [f"{name}: expected a tar archive, as the name says, got {told}"])


def test_a_damaged_archive_is_no_other_file() -> None:
    Path("a.tar").write_bytes(bytes(range(256)) * 4)
    (complaint,) = read("a.tar")[1]
    assert complaint.startswith("a.tar: cannot read the archive: ")
