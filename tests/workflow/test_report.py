"""The page of `evaluate --report`: what it holds, that all of it is there, and how a browser shows it."""

from __future__ import annotations

import io
import re
import tarfile
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import browser
import numpy as np
import pytest
from command_line import invoke, refusal
from projects import (
    PARAMETERS,
    structures,
    structures_with_forces,
    structures_with_stress,
    trained_project,
    with_forces,
    write_files,
)

from tio2nn.errors import UsageError
from tio2nn.evaluation import html_report
from tio2nn.io.labeled_text import exact_extxyz
from tio2nn.project.commands import kept_command
from tio2nn.project.freshness import Snapshot
from tio2nn.project.parts import STRUCTURES
from tio2nn.project.project import Project
from tio2nn.workflow.evaluate import evaluate
from tio2nn.workflow.extract import extract
from tio2nn.workflow.report import write_report

WIDTHS = (400, 900, 1400)
# what others may call the members of an archive
HOSTILE = (
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(2)>',
    "{{ 7 * 7 }}{% for x in y %}",
    "&lt;b&gt; & 'quoted'",
    "x" * 150,
    "日本語 Å",
)


class Reader(HTMLParser):
    """What stands on a page.

    Attributes:
        tags: every tag with its attributes.
        text: all texts.
        open: the tags around the present place.
        inside: for each tag, the tags around it.
    """

    EMPTY = ("meta", "link", "br", "img", "path", "use", "rect", "image")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.headings: list[int] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_data(self, data: str) -> None:
        self.text += data

    def named(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return trained_project(tmp_path / "p")


def hostile_archive(path: Path) -> Path:
    """Labeled structures with forces, of names that would do something in a page that does not escape them."""
    folder = path.with_suffix("")
    files = write_files(folder, [with_forces(s) for s in structures()[: len(HOSTILE)]])
    with tarfile.open(path, "w") as tar:
        for file, name in zip(files, HOSTILE, strict=True):
            data = file.read_bytes()
            member = tarfile.TarInfo(f"{name}.xsf")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        bad = tarfile.TarInfo("<script>alert(3)</script>.xsf")
        bad.size = 8
        tar.addfile(bad, io.BytesIO(b"nothing\n"))
    return path


def test_evaluate_writes_the_page_beside_its_results(project: Project) -> None:
    _, err = invoke("evaluate", "-C", project.root, "--report")
    path = project.evaluation_directory / "report.html"
    assert f"wrote the report to {path}" in err
    page = Reader(path.read_text(encoding="utf-8"))
    metrics = evaluate(project).metrics
    assert f"{metrics['energy']['rmse_meV_per_atom']:.4g}" in page.text
    for title in ("Errors", "Figures", "Data", "Settings", "Provenance", "Commands", "Against the baseline"):
        assert title in page.text
    assert "Audit of the structures" in page.text
    assert metrics["potential"] in page.text  # the digest
    assert '"cutoff"' in page.text
    assert f"tio2nn extract -C {project.root}" in page.text
    assert len(page.named("figure")) == len(list(project.evaluation_directory.glob("*.png"))) + 1  # training


def test_commands_stand_as_they_were_typed_until_something_else_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = Project.create(tmp_path / "p", PARAMETERS)
    write_files(tmp_path / "files", structures_with_forces())

    def typed(*words: str) -> None:
        monkeypatch.setattr("sys.argv", ["/somewhere/tio2nn", *words])
        invoke(*words)

    typed("extract", "-C", "p", "files", "--energy", "energy")
    typed("featurize", "-C", "p", "--energies-only")
    typed("train", "-C", "p", "--energies-only", "--epochs", "2")
    typed("evaluate", "-C", "p", "--report")
    page = Reader((made.evaluation_directory / "report.html").read_text(encoding="utf-8")).text
    for line in (
        "tio2nn extract -C p files --energy energy",
        "tio2nn featurize -C p --energies-only",
        "tio2nn train -C p --energies-only --epochs 2",
        "tio2nn evaluate -C p --report",
    ):
        assert line in page
    snapshot = Snapshot(made)
    assert kept_command(snapshot, STRUCTURES)[1] == "extract"
    extract(made, tmp_path / "files", limit=20)
    assert kept_command(Snapshot(made), STRUCTURES) == []


def test_the_page_says_how_many_structures_have_a_stress(project: Project, tmp_path: Path) -> None:
    chosen = structures_with_stress()
    n = sum(structure.stress is not None for structure in chosen)
    assert 0 < n < len(chosen)
    (tmp_path / "some.xyz").write_text("".join(exact_extxyz(s, {}) for s in chosen), encoding="utf-8")
    page = tmp_path / "page.html"
    invoke("evaluate", "-C", project.root, tmp_path / "some.xyz", "--report", page)
    assert f"{n} structures have a stress to compare with." in Reader(page.read_text(encoding="utf-8")).text


@pytest.fixture(scope="module")
def hostile_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report on a hostile archive."""
    here = tmp_path_factory.mktemp("hostile")
    archive, project = hostile_archive(here / "a.tar"), trained_project(here / "p")
    invoke("evaluate", "-C", project.root, archive, "--report", here / "x.html", code=3)
    return here / "x.html"


def test_it_is_well_made(hostile_page: Path) -> None:
    """Headings in order, tables with captions and scopes, figures with texts, each id once."""
    page = Reader(hostile_page.read_text(encoding="utf-8"))
    assert page.named("html") == [{"lang": "en"}]
    assert page.headings[0] == 1
    assert page.headings.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(page.headings, page.headings[1:], strict=False))
    assert len(page.named("caption")) == len(page.named("table")) >= 8
    assert {head.get("scope") for head in page.named("th")} == {"col", "row"}
    pictures = page.named("svg")
    assert len(pictures) == len(page.named("figure")) == len(page.named("figcaption")) >= 4
    ids = Counter(attributes["id"] for _, attributes in page.tags if "id" in attributes)
    assert [name for name, n in ids.items() if n > 1] == []
    for picture in pictures:
        assert picture["role"] == "img"
        assert picture["aria-labelledby"] in ids
    links = {attributes["href"][1:] for attributes in page.named("a")}
    assert links <= set(ids)


def test_nothing_comes_from_elsewhere_and_nothing_runs(hostile_page: Path) -> None:
    text = hostile_page.read_text(encoding="utf-8")
    page = Reader(text)
    names = {name for name, _ in page.tags}
    assert not names & {"script", "iframe", "object", "embed", "img", "video", "base", "form"}
    for _, attributes in page.tags:
        assert not [key for key in attributes if key.startswith("on")]
        for key in ("src", "href", "xlink:href"):
            assert attributes.get(key, "#").startswith(("#", "data:"))
    assert not re.search(r"url\((?!#)|@import", text)
    assert not re.search(r"https?://(?!www\.w3\.org/)", text)
    for name in HOSTILE:
        assert name in page.text
    # no template within the template
    assert "{{ 7 * 7 }}" in page.text


def test_equal_evaluations_give_equal_pages(project: Project, tmp_path: Path) -> None:
    summary = evaluate(project)
    one = write_report(summary, tmp_path / "one.html", project=project)
    other = write_report(summary, tmp_path / "other.html", project=project)
    assert one.read_bytes() == other.read_bytes()


def test_a_failure_leaves_the_earlier_page(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out" / "x.html"
    path.parent.mkdir()
    path.write_text("earlier")

    def fail(_: object) -> str:
        raise OSError("no")

    monkeypatch.setattr(html_report, "html", fail)
    with pytest.raises(OSError, match="no"):
        write_report(evaluate(project), path, project=project)
    assert path.read_text() == "earlier"
    assert list(path.parent.iterdir()) == [path]


def test_a_structure_file_behind_the_option_is_a_source(project: Project, tmp_path: Path) -> None:
    (file,) = write_files(tmp_path / "files", structures()[:1])
    before = file.read_bytes()
    invoke("evaluate", "-C", project.root, "--report", file)
    assert file.read_bytes() == before
    assert (project.other_evaluation_directory / "report.html").exists()
    line = refusal("evaluate", "-C", project.root, f"--report={file}", code=2)
    assert line == f"--report: expected a file named *.html, got {str(file)!r}"
    assert file.read_bytes() == before


@pytest.mark.parametrize("command", ["evaluate", "run"])
@pytest.mark.parametrize("name", ["foo.txt", "report", "page.htm", "out/report.pdf"])
def test_a_page_of_another_name_is_refused_and_not_taken_for_a_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    line = refusal(command, "--report", name, code=2)
    assert line.startswith(f"--report: expected a file named *.html, got '{name}'")
    Path("page.htm").touch()
    Path("foo.txt").touch()
    if name == "page.htm":
        assert "expected a file named *.html" in refusal(command, "--report", name, code=2)
    if name == "foo.txt":
        _, err = invoke(command, "--report", name, code=3)  # a file of any name may hold structures
        assert "--report" not in err


def test_a_command_without_reports_knows_no_such_option() -> None:
    assert refusal("predict", "--report", "nofile", code=2).startswith("No such option: --report")


def test_without_a_project_the_file_must_be_named(project: Project, tmp_path: Path) -> None:
    (file,) = write_files(tmp_path / "files", structures()[:1])
    arguments = ("evaluate", file, "--potential", project.potential_file)
    line = refusal(*arguments, "--report", code=2)
    assert line == "expected --report FILE.html where there is no project, got no file"
    invoke(*arguments, "--report", tmp_path / "x.HTML")
    page = Reader((tmp_path / "x.HTML").read_text(encoding="utf-8"))
    assert "Audit" not in page.text
    assert "tio2nn" in page.text
    with pytest.raises(UsageError, match="FILE"):
        write_report(evaluate(None, [file], potential_file=project.potential_file))


@pytest.mark.slow
def test_run_writes_it_too(tmp_path: Path) -> None:
    files = tmp_path / "files"
    write_files(files, structures_with_forces())
    arguments = ("run", files, "-C", tmp_path / "p", "--epochs", "2", "--members", "1", "--jobs", "1")
    assert "expected a file named *.html" in refusal(*arguments, "--report=x.csv", code=2)
    _, err = invoke(*arguments, "--report")
    assert "wrote the report to" in err
    text = (tmp_path / "p" / "evaluation" / "report.html").read_text(encoding="utf-8")
    assert "Force errors by element" in text
    assert "Predicted and true forces" in text


# --- in a browser -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_browser_shows_it_at_every_width_dark_and_light_and_prints_it(hostile_page: Path) -> None:
    from PIL import Image

    browser.chromium()
    with browser.tab() as tab:
        tab.open(hostile_page.as_uri())
        for width in WIDTHS:
            for dark in (False, True):
                tab.show(width, dark=dark)
                # nothing but tables and code scrolls sideways
                assert tab.value("document.documentElement.scrollWidth") == width
                assert tab.value("document.documentElement.clientWidth") == width
                pixels = np.asarray(Image.open(io.BytesIO(tab.picture())).convert("L"), dtype=float)
                assert pixels.shape[1] == width
                # the paper, and the ink of text and of figures
                paper = np.median(pixels)
                assert paper < 60 if dark else paper > 240
                assert np.mean(np.abs(pixels - paper) > 100) > 0.005
        for element, n in (("figure svg", len(WIDTHS)), ("table", 8)):
            sizes = tab.value(
                f"[...document.querySelectorAll('{element}')].map(e => e.getBoundingClientRect().width)"
            )
            assert len(sizes) >= n
            assert min(sizes) > 100
        # text has contrast enough, in both
        for dark in (False, True):
            tab.show(900, dark=dark)
            for selector in ("p", "thead th", ".note", "footer p", "a"):
                assert tab.value(CONTRAST.replace("SELECTOR", selector)) > 4.5, (selector, dark)
        printed = tab.printed()
    assert printed.startswith(b"%PDF-")
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= 20
    requests = [event for event in tab.events if event["method"] == "Network.requestWillBeSent"]
    urls = {event["params"]["request"]["url"] for event in requests}
    assert {url for url in urls if not url.startswith("data:")} == {hostile_page.as_uri()}
    # no message, no exception
    assert [event for event in tab.events if event not in requests] == []


# the ratio of W3C's guidelines, of a text and what is behind it
CONTRAST = """
(() => {
  const lightness = color => {
    const [r, g, b] = color.match(/[0-9.]+/g).slice(0, 3).map(v => v / 255)
      .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const text = lightness(getComputedStyle(document.querySelector('SELECTOR')).color);
  const paper = lightness(getComputedStyle(document.body).backgroundColor);
  return (Math.max(text, paper) + 0.05) / (Math.min(text, paper) + 0.05);
})()
"""
