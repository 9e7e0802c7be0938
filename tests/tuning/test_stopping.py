from __future__ import annotations

import pytest
from trials import make_trial

from tio2nn.parameters.fit_parameters import TuningParameters
from tio2nn.tuning.stopping import Stopping
from tio2nn.tuning.trials import DIVERGED


def end_of(rmses: list[float | None], **tuning: object) -> int | None:
    """The trial, from 1, after which a search with these errors ends."""
    stopping = Stopping(TuningParameters(**tuning))  # type: ignore[arg-type]
    for number, rmse in enumerate(rmses, start=1):
        stopping.tell(make_trial(number, rmse, *(() if rmse is not None else (DIVERGED,))))
        if stopping.is_over:
            return number
    return None


def test_a_search_ends_after_so_many_trials_without_an_improvement() -> None:
    assert end_of([10.0, 9.0, 9.5, 9.0, 9.0], strategy="random", patience=3) == 5
    assert end_of([10.0, 9.0, 9.5, 9.0, 8.0, 9.0, 9.0], strategy="random", patience=3) is None


def test_less_than_a_percent_is_no_improvement_until_it_has_added_up() -> None:
    assert end_of([10.0, 9.95, 9.91, 9.905], strategy="bayesian", patience=3) == 4
    assert end_of([10.0, 9.95, 9.89, 9.85], strategy="bayesian", patience=3) is None


def test_what_diverges_is_no_improvement() -> None:
    assert end_of([None, None, None], strategy="random", patience=3) == 3


@pytest.mark.parametrize(
    ("strategy", "end"), [("grid", None), ("random", 31), ("bayesian", 31), ("hyperband", 31)]
)
def test_by_default_a_grid_is_tried_as_a_whole_and_others_end_after_thirty(
    strategy: str, end: int | None
) -> None:
    assert end_of([10.0] * 40, strategy=strategy) == end


def test_short_trials_of_hyperband_do_not_count() -> None:
    stopping = Stopping(TuningParameters(strategy="hyperband", epochs=20, patience=2))
    for rmse in (10.0, 11.0, 12.0):
        stopping.tell(make_trial(rmse=rmse, epochs=7))
    assert not stopping.is_over
    for rmse in (12.0, 13.0, 14.0):
        stopping.tell(make_trial(rmse=rmse, epochs=20))
    assert stopping.is_over
