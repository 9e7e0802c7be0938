"""Fits that are killed and go on, and fits in company, end with the same bits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from training.small_fits import make_fit, per_atom, weights

from tio2nn.training import fit as training
from tio2nn.training.fit import Fit, Resumption, run_in_company
from tio2nn.training.history import Epoch


class KilledError(Exception):
    """Ends a fit in the middle."""


# best early, stopped soon after
EARLY: dict[str, Any] = {"early_stopping": 2, "epochs": 20, "learning_rate": 0.05, **per_atom(1.0, 0.3)}


def without_time(history: list[Epoch]) -> list[Epoch]:
    return [replace(epoch, seconds=0.0) for epoch in history]


def stop_in(number: int) -> Callable[[Epoch], None]:
    """As a process that is killed when this epoch ends, before its checkpoint is written."""

    def on_epoch(epoch: Epoch) -> None:
        if epoch.epoch == number:
            raise KilledError

    return on_epoch


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint after each epoch."""
    monkeypatch.setattr(training, "_CHECKPOINT_SECONDS", -1.0)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return tmp_path / "checkpoint.npz"


# --- going on -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize(
    "settings",
    [
        {"dropout": 0.3},
        EARLY,
    ],
    ids=["dropout", "early stopping"],
)
def test_a_fit_that_was_killed_ends_with_the_bits_of_one_that_was_not(
    checkpoint: Path, settings: dict[str, Any]
) -> None:
    undisturbed = make_fit(**settings)
    undisturbed.run()
    with pytest.raises(KilledError):
        make_fit(**settings).run(Resumption(checkpoint, "same"), stop_in(4))
    heard: list[int] = []
    resumed = make_fit(**settings)
    resumed.run(Resumption(checkpoint, "same"), lambda epoch: heard.append(epoch.epoch))
    assert heard == list(range(4, len(undisturbed.history) + 1))
    assert without_time(resumed.history) == without_time(undisturbed.history)
    assert resumed.chosen == resumed.history[undisturbed.chosen.epoch - 1]
    for found, expected in zip(weights(resumed), weights(undisturbed), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_fit_that_ended_is_not_run_again(checkpoint: Path) -> None:
    first, second = make_fit(epochs=2), make_fit(epochs=2)
    first.run(Resumption(checkpoint, "same"))
    second.run(Resumption(checkpoint, "same"), stop_in(1))
    assert second.history == first.history
    for found, expected in zip(weights(second), weights(first), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.usefixtures("always")
def test_a_checkpoint_of_another_fit_is_ignored(checkpoint: Path) -> None:
    with pytest.raises(KilledError):
        make_fit(epochs=3).run(Resumption(checkpoint, "another"), stop_in(3))
    with pytest.raises(KilledError):
        make_fit(epochs=3).run(Resumption(checkpoint, "this"), stop_in(1))


def _damages() -> dict[str, Callable[[bytes], bytes]]:
    return {
        "nothing": lambda _: b"",
        "half": lambda data: data[: len(data) // 2],
        "text": lambda _: b"not a checkpoint\n" * 20,
        "zeros": lambda data: bytes(len(data)),
        "overwritten": lambda data: data[:500] + bytes(300) + data[800:],
        "one array": lambda _: (
            b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (0,), }"
            + b" " * 60
            + b"\n"
        ),
    }


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize(
    "damages",
    [
        ("half", "one array"),
        pytest.param(("nothing", "text", "zeros", "overwritten"), marks=pytest.mark.slow),
    ],
    ids=", ".join,
)
def test_a_damaged_checkpoint_is_ignored(checkpoint: Path, damages: tuple[str, ...]) -> None:
    with pytest.raises(KilledError):
        make_fit(epochs=3).run(Resumption(checkpoint, "same"), stop_in(3))
    data = checkpoint.read_bytes()
    fit = make_fit(epochs=3)
    with pytest.raises(KilledError):  # the whole one is taken
        fit.run(Resumption(checkpoint, "same"), stop_in(3))
    assert len(fit.history) == 3
    for name in damages:
        checkpoint.write_bytes(_damages()[name](data))
        begun = make_fit(epochs=3)
        with pytest.raises(KilledError):
            begun.run(Resumption(checkpoint, "same"), stop_in(1))
        assert [replace(epoch, seconds=0.0) for epoch in begun.history] == without_time(fit.history[:1]), name


# --- in company ---------------------------------------------------------------------------------------------


def make_members(n: int, **settings: Any) -> list[Fit]:
    """Networks with first weights of their own, and the order of structures in common."""
    fits = []
    for member in range(1, n + 1):
        fit = make_fit(**settings)
        keras.utils.set_random_seed(member)
        for subnet in fit.network.subnets.values():
            for layer in subnet.layers:
                if isinstance(layer, keras.layers.Dense):
                    layer.kernel.assign(np.random.default_rng(member).normal(size=layer.kernel.shape))
        fits.append(Fit(fit.network, fit.parameters, fit.seed, fit.data, member))
    return fits


def same_as(found: Fit, expected: Fit) -> bool:
    """Whether two fits have the same bits."""
    same = all(np.array_equal(a, b) for a, b in zip(weights(found), weights(expected), strict=True))
    return same and without_time(found.history) == without_time(expected.history)


def nothing(_: int, __: Epoch) -> None:
    """Listens to no epoch."""


@pytest.mark.parametrize(
    "settings",
    [pytest.param({"dropout": 0.3}, marks=pytest.mark.slow), EARLY],
    ids=["dropout", "early stopping"],
)
def test_a_member_has_the_same_bits_alone_and_in_company(settings: dict[str, Any]) -> None:
    alone = make_members(3, **settings)
    for fit in alone:
        fit.run()
    assert not any(same_as(fit, alone[0]) for fit in alone[1:])
    for threads in (1, 3):
        together = make_members(3, **settings)
        run_in_company(together, None, nothing, threads)
        for fit, expected in zip(together, alone, strict=True):
            assert same_as(fit, expected)
        lengths = {len(fit.history) for fit in together}
        assert (len(lengths) > 1) == ("early_stopping" in settings)  # members leave when they stop


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize(
    "settings",
    [{"dropout": 0.3}, pytest.param(EARLY, marks=pytest.mark.slow)],
    ids=["dropout", "early stopping"],
)
def test_members_that_resume_at_different_epochs_catch_up_and_end_with_the_same_bits(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    expected = make_members(3, **settings)
    run_in_company(expected, None, nothing)
    resumptions = [Resumption(tmp_path / f"{k}.npz", str(k)) for k in range(3)]

    def kill(place: int, epoch: Epoch) -> None:
        # the first member has saved this epoch, the others have not
        if (place, epoch.epoch) == (1, 3):
            raise KilledError

    with pytest.raises(KilledError):
        run_in_company(make_members(3, **settings), resumptions, kill)
    resumptions[2].checkpoint.unlink()
    heard: list[tuple[int, int]] = []
    resumed = make_members(3, **settings)
    run_in_company(resumed, resumptions, lambda place, epoch: heard.append((place, epoch.epoch)))
    assert heard[:5] == [(2, 1), (2, 2), (1, 3), (2, 3), (0, 4)]
    assert all(same_as(fit, other) for fit, other in zip(resumed, expected, strict=True))


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_in_company_leaves_no_thread_behind(threads: int) -> None:
    before = threading.active_count()

    def fail(_: int, __: Epoch) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_in_company(make_members(2), None, fail, threads)
    assert threading.active_count() == before
