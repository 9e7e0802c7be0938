from __future__ import annotations

import pytest
from ase.data import chemical_symbols

from tio2nn.structures.elements import ATOMIC_NUMBERS, ELEMENT_OF, SYMBOLS, remedy


def test_the_symbols_are_those_of_another_program() -> None:
    assert list(SYMBOLS) == chemical_symbols[1:]
    assert ATOMIC_NUMBERS["Ti"] == 22


@pytest.mark.parametrize("spelling", ["Ti", "TI", "ti", "22"])
def test_an_element_has_several_spellings(spelling: str) -> None:
    assert ELEMENT_OF[spelling] == "Ti"


@pytest.mark.parametrize("spelling", ["", "X", "0", "119", "Ti1", "tI", "22.0"])
def test_other_texts_are_no_element(spelling: str) -> None:
    assert spelling not in ELEMENT_OF


@pytest.mark.parametrize(("text", "told"), [("D", "write H"), ("t", "write H"), ("X", "ghost"), ("Ti1", "")])
def test_of_what_is_no_element_the_remedy_is_told(text: str, told: str) -> None:
    assert (told in remedy(text)) if told else not remedy(text)
    assert text not in ELEMENT_OF
