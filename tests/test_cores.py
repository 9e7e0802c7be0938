from __future__ import annotations

import threading

import pytest

from tio2nn.cores import available_cores, one_blas_thread, thread_count, threaded
from tio2nn.errors import UsageError


def test_the_number_of_threads_is_that_asked_for_else_that_of_the_environment_else_of_cores() -> None:
    assert thread_count(3, {"TIO2NN_THREADS": "2"}) == 3
    assert thread_count(None, {"TIO2NN_THREADS": "2"}) == 2
    assert thread_count(None, {"TIO2NN_THREADS": ""}) == thread_count(None, {}) == available_cores()


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", "²", " 2"])
def test_a_variable_that_is_no_positive_integer_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="TIO2NN_THREADS: expected a positive integer, got "):
        thread_count(None, {"TIO2NN_THREADS": text})
    with pytest.raises(UsageError, match="threads: expected a positive number, got 0"):
        thread_count(0)


def test_results_come_in_the_order_of_the_items_from_as_many_threads_as_asked_for() -> None:
    meeting = threading.Barrier(3, timeout=60.0)

    def work(item: int) -> tuple[int, str]:
        if item < 3:
            # passes only if three are here at once
            meeting.wait()
        return item, threading.current_thread().name

    found = list(threaded(work, range(20), 3))
    assert [item for item, _ in found] == list(range(20))
    assert len({name for _, name in found}) == 3
    assert {
        name for _, name in threaded(lambda item: (item, threading.current_thread().name), range(4), 1)
    } == {threading.current_thread().name}


def test_the_first_error_in_the_order_of_the_items_is_raised() -> None:
    def work(item: int) -> int:
        if item >= 2:
            raise ValueError(item)
        return item

    found = threaded(work, range(9), 2)
    assert [next(found), next(found)] == [0, 1]
    with pytest.raises(ValueError, match="2"):
        next(found)


def test_matrix_products_use_one_thread_in_the_block_and_the_former_number_behind_it() -> None:
    from threadpoolctl import threadpool_info

    def numbers() -> list[int]:
        return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]

    before = numbers()
    assert before
    with one_blas_thread():
        assert set(numbers()) == {1}
    assert numbers() == before
