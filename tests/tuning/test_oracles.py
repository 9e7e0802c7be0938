from __future__ import annotations

import pytest

from tio2nn.parameters.fit_parameters import TuningParameters
from tio2nn.tuning.oracles import Oracle, candidates
from tio2nn.tuning.trials import COMPLETED, FAILED, Candidate, Outcome


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


# --- those that learn from results --------------------------------------------------------------------------


def outcome_of(candidate: Candidate) -> Outcome:
    """The larger the network, the better: the best of a model is soon a candidate that was tried before."""
    return Outcome(
        status=COMPLETED, validation_rmse_meV_per_atom=100.0 / (candidate.layers * candidate.nodes)
    )


def proposals(oracle: Oracle) -> list[tuple[int, Candidate]]:
    """All proposals, each told its result before the next."""
    made = []
    while (proposal := oracle.ask()) is not None:
        made.append(proposal)
        oracle.tell(proposal[0], outcome_of(proposal[1]))
    assert oracle.has_ended
    return made


GUIDED = {
    "bayesian": TuningParameters(
        strategy="bayesian", layers=(1, 2), nodes=(4, 8), max_trials=18, learning_rate=(1e-3, 2e-3)
    ),
    "hyperband": TuningParameters(strategy="hyperband", epochs=9),
}


def test_a_bayesian_search_tries_nothing_twice_and_ends_with_the_space() -> None:
    with Oracle(GUIDED["bayesian"]) as oracle:
        made = proposals(oracle)
    assert len({candidate for _, candidate in made}) == len(made) == 2**4


@pytest.mark.parametrize("strategy", GUIDED)
def test_an_oracle_that_follows_another_goes_on_where_it_is(strategy: str) -> None:
    with Oracle(GUIDED[strategy]) as leader, Oracle(GUIDED[strategy]) as follower:
        for _ in range(13):
            proposal = leader.ask()
            assert proposal is not None
            assert follower.follow(proposal[1])
            for oracle in (leader, follower):
                oracle.tell(proposal[0], outcome_of(proposal[1]))
        left = proposals(follower)
        assert left[0][0] == 14
        if strategy == "hyperband":
            assert proposals(leader) == left


@pytest.mark.parametrize("strategy", GUIDED)
def test_an_oracle_does_not_follow_to_what_it_cannot_propose(strategy: str) -> None:
    with Oracle(GUIDED[strategy]) as oracle:
        assert not oracle.follow(Candidate(layers=9, nodes=9, learning_rate=9.0, dropout=0.9, epochs=9))


def test_a_hyperband_search_waits_for_results_before_its_longer_trials() -> None:
    with Oracle(GUIDED["hyperband"]) as oracle:
        made = []
        while (proposal := oracle.ask()) is not None:
            made.append(proposal)
        assert not oracle.has_ended
        for number, candidate in made:
            oracle.tell(number, outcome_of(candidate))
        proposal = oracle.ask()
        assert proposal is not None
        assert proposal[1].epochs > min(candidate.epochs for _, candidate in made)


def test_a_trial_that_was_tried_again_has_its_second_result() -> None:
    with Oracle(GUIDED["hyperband"]) as oracle:
        proposal = oracle.ask()
        assert proposal is not None
        oracle.tell(proposal[0], Outcome(status=FAILED, message="out of memory"))
        oracle.tell(proposal[0], outcome_of(proposal[1]))
        proposals(oracle)
