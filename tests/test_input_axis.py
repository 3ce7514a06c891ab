"""Which axis of an input holds channels: the one a convolution reads, also where the input is moved about before it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from saccade import Stream, make_plan


class Moved(nn.Module):
    """A convolution behind what moves its input."""

    def __init__(self, move: Callable[[Tensor], Tensor], convolution: nn.Module) -> None:
        super().__init__()
        self.move, self.convolution = move, convolution

    def forward(self, x: Tensor) -> Tensor:
        """Return its output, after a ReLU."""
        return self.convolution(self.move(x)).relu()


CASES: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[], nn.Module], tuple[int, ...], int]] = {
    "pictures of a clip": (lambda x: x.flatten(0, 1), lambda: nn.Conv2d(3, 5, 3, padding=1), (1, 4, 3, 7, 9), 2),
    "as many frames as channels": (lambda x: x.flatten(0, 1), lambda: nn.Conv2d(3, 5, 3), (1, 3, 3, 7, 9), 2),
    "clips, frames first": (lambda x: x.transpose(1, 2), lambda: nn.Conv3d(3, 5, 3, padding=1), (1, 4, 3, 7, 9), 2),
    "channels last": (lambda x: x.permute(0, 3, 1, 2), lambda: nn.Conv2d(3, 5, 3, padding=1), (1, 7, 9, 3), 3),
    "channels last, no batch": (lambda x: x.permute(2, 0, 1)[None], lambda: nn.Conv2d(3, 5, 3), (7, 9, 3), 2),
    "frames as channels": (lambda x: x.flatten(1, 2), lambda: nn.Conv2d(12, 5, 3, padding=1), (1, 4, 3, 7, 9), 1),
}


@pytest.mark.parametrize("case", CASES)
def test_an_input_is_compared_and_computed_pixel_by_pixel(case: str, executor: str) -> None:
    """One pixel changes: nothing runs in torch, and no more than the window around it is computed."""
    move, make, shape, axis = CASES[case]
    torch.manual_seed(0)
    network, frame = Moved(move, make()).eval(), torch.rand(shape)
    plan = make_plan(network, frame)
    assert plan.values[plan.inputs[0]].channel_axis == axis
    stream, other = Stream(plan, executor=executor), frame.clone()
    other[tuple(0 if dim == axis else size // 2 for dim, size in enumerate(shape))] += 1.0
    with torch.no_grad():
        for each in (frame, other, frame):
            torch.testing.assert_close(stream(each), network(each), rtol=1e-5, atol=1e-5)
    assert "torch" not in {cost.form for cost in stream.step_costs}
    (cost,) = (cost for cost in stream.step_costs if cost.dense_macs)
    assert 0 < cost.active <= 27
