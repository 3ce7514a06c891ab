"""The order of training: every sample once per epoch, the same for one process and for several."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saccade.errors import TrainingError
from saccade.train.order import Order


@given(length=st.integers(1, 40), share=st.integers(1, 9), processes=st.integers(1, 4), seed=st.integers(0, 2**40))
def test_every_epoch_holds_every_sample_once_and_processes_do_not_overlap(
    length: int, share: int, processes: int, seed: int
) -> None:
    batch, epochs = share * processes, 3
    steps = range(1, -(-epochs * length // batch) + 1)
    order = Order(length, batch=batch, seed=seed)
    parts = [
        [Order(length, batch=batch, seed=seed).step(s, rank=rank, processes=processes) for rank in range(processes)]
        for s in steps
    ]
    for step, ranks in zip(steps, parts, strict=True):
        together = [place for part in ranks for place in part]
        assert together == list(order.step(step))
        assert len(together) == len(set(together)) == batch
    places = [place for ranks in parts for part in ranks for place in part]
    for epoch in range(epochs):
        assert sorted(index for e, index in places if e == epoch) == list(range(length))


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    epochs = [[index for _, index in Order(50, batch=50, seed=1).step(step)] for step in (1, 2)]
    other = [index for _, index in Order(50, batch=50, seed=2).step(1)]
    assert epochs[0] != epochs[1]
    assert other not in (*epochs, list(range(50)))


def test_a_step_asked_for_alone_is_the_step_of_the_whole_course() -> None:
    whole = Order(13, batch=5, seed=9)
    course = [list(whole.step(step)) for step in range(1, 60)]
    assert list(Order(13, batch=5, seed=9).step(47)) == course[46]
    assert list(whole.step(2)) == course[1]


def test_no_samples() -> None:
    with pytest.raises(TrainingError, match="no samples; expected one or more"):
        Order(0, batch=4, seed=0)
