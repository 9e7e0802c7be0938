"""Where several things are expected, one alone is taken for what it is or refused; letters of a text are nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from potentials import POTENTIAL
from projects import PARAMETERS, structures, write_files

from tio2nn import InputError, ParameterError, ParameterSet, Project, Structure, SymmetryCalculator, preset
from tio2nn.parameters.draft import Draft
from tio2nn.workflow.evaluate import evaluate
from tio2nn.workflow.extract import extract


@pytest.mark.parametrize(
    "make",
    [
        lambda elements: preset("artrith-urban-2016", elements),
        lambda elements: Draft.new(elements),
        lambda elements: PARAMETERS.with_overrides(elements=elements),
        lambda elements: ParameterSet(elements=elements, cutoff=4.0, radial=PARAMETERS.radial, angular=()),
    ],
    ids=["preset", "draft", "overrides", "parameter set"],
)
@pytest.mark.parametrize("text", ["CO", "TiO", "Ti"])
def test_the_letters_of_a_text_are_no_elements(make: Callable[[str], object], text: str) -> None:
    with pytest.raises(ParameterError, match=rf'^elements: expected a non-empty list .*, got "{text}"$'):
        make(text)


def test_the_verbs_take_one_source(tmp_path: Path) -> None:
    paths = write_files(tmp_path / "files", structures()[:2])
    project = Project.create(tmp_path / "p", PARAMETERS)
    for one in (paths[0], str(paths[0])):
        assert extract(project, one).n_structures == 1
        with pytest.raises(InputError):
            # a text walked letter by letter would crawl the disk before it came to this
            evaluate(None, one, potential_file=tmp_path / "missing.npz")
    POTENTIAL.save(tmp_path / "potential.npz")
    found = evaluate(None, str(paths[0]), potential_file=tmp_path / "potential.npz")
    assert found.metrics["n_structures"] == 1


@pytest.mark.parametrize(
    "compute",
    [
        lambda structures: list(POTENTIAL.predict(structures)),
        lambda structures: list(POTENTIAL.predict(structures, forces=True)),
        lambda structures: list(SymmetryCalculator(PARAMETERS).map(structures)),
    ],
    ids=["energies", "forces", "features"],
)
def test_one_structure_is_no_several(compute: Callable[[object], list[object]]) -> None:
    with pytest.raises(
        TypeError, match=r"^structures: expected several, got one Structure; put it in a list"
    ):
        compute(structures()[0])


def test_structures_may_come_one_after_the_other() -> None:
    expected = [prediction.energy for prediction in POTENTIAL.predict(structures())]
    assert [prediction.energy for prediction in POTENTIAL.predict(iter(structures()))] == expected


def test_structures_before_one_that_cannot_be_read_are_predicted() -> None:
    def coming() -> Iterator[Structure]:
        yield from structures()[:2]
        raise InputError("expected another", file="third.xsf")

    found = POTENTIAL.predict(coming())
    assert [next(found).structure.name for _ in range(2)] == [s.name for s in structures()[:2]]
    with pytest.raises(InputError, match=r"^third\.xsf: expected another$"):
        next(found)
