from __future__ import annotations

from tio2nn.parameters.fit_parameters import TuningParameters
from tio2nn.tuning.oracles import candidates
from tio2nn.tuning.trials import Candidate


def test_the_default_grid_has_54_different_trials() -> None:
    found = list(candidates(TuningParameters()))
    assert [number for number, _ in found] == list(range(1, 55))
    assert {(c.layers, c.nodes, c.learning_rate, c.dropout) for _, c in found} == {
        (layers, nodes, rate, dropout)
        for layers in (4, 5, 6)
        for nodes in (16, 32, 64)
        for rate in (5e-4, 1e-4, 5e-5)
        for dropout in (0.0, 0.2)
    }
    assert {c.epochs for _, c in found} == {20}


def test_a_limit_takes_the_first_trials_of_the_grid() -> None:
    everything = list(candidates(TuningParameters()))
    assert list(candidates(TuningParameters(max_trials=5))) == everything[:5]


def test_random_candidates_are_different_ones_and_follow_from_the_seed() -> None:
    def draw(seed: int) -> list[Candidate]:
        tuning = TuningParameters(strategy="random", max_trials=12, seed=seed)
        return [candidate for _, candidate in candidates(tuning)]

    first = draw(0)
    assert len(set(first)) == 12
    assert draw(0) == first
    assert draw(1) != first
