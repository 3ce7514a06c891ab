"""The change rule written a second time, position by position in plain Python, against the executor."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from networks import moving_square
from torch import Tensor, nn

import saccade


class Three(nn.Module):
    """A strided convolution with a ReLU, a dilated grouped one, and a 1x1 added to the first's output."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a = nn.Conv2d(2, 4, 3, stride=2, padding=1)
        self.b = nn.Conv2d(4, 4, (3, 2), padding=(2, 1), dilation=2, groups=2)
        self.c = nn.Conv2d(4, 4, 1)
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x).relu()
        return self.c(self.b(a)) + a


class BruteForce:
    """The change rule for `Three`, written from its definition. Positions are (y, x); values are Python floats."""

    def __init__(self, model: Three, thresholds: dict[str, float], form: str) -> None:
        self.model, self.thresholds, self.form = model, thresholds, form
        self.value: dict[str, dict[tuple[int, int], list[float]]] = {}
        self.told: dict[str, dict[tuple[int, int], list[float]]] = {}
        self.moved: dict[str, dict[tuple[int, int], float]] = {}
        self.announced: dict[str, set[tuple[int, int]]] = {}
        self.active: dict[str, set[tuple[int, int]]] = {}

    def frame(self, pixels: Tensor) -> None:
        height, width = pixels.shape[2:]
        everywhere = set(itertools.product(range(height), range(width)))
        self.keep("x", {p: pixels[0, :, p[0], p[1]].tolist() for p in everywhere}, everywhere)
        self.layer("a", self.model.a, "x", relu=True)
        self.layer("b", self.model.b, "a")
        self.layer("c", self.model.c, "b", residual="a")

    def layer(self, name: str, conv: nn.Conv2d, source: str, *, relu: bool = False, residual: str = "") -> None:
        rows = 1 + max(y for y, _ in self.value[source])
        columns = 1 + max(x for _, x in self.value[source])
        (kh, kw), (sh, sw), (ph, pw), (dh, dw) = conv.kernel_size, conv.stride, conv.padding, conv.dilation
        shape = (
            (rows + 2 * ph - dh * (kh - 1) - 1) // sh + 1,
            (columns + 2 * pw - dw * (kw - 1) - 1) // sw + 1,
        )
        active, fresh = set(), {}
        per_group_in, per_group_out = conv.in_channels // conv.groups, conv.out_channels // conv.groups
        for y, x in itertools.product(range(shape[0]), range(shape[1])):
            taps = [(i, j, (y * sh - ph + i * dh, x * sw - pw + j * dw)) for i in range(kh) for j in range(kw)]
            inside = [(i, j, at) for i, j, at in taps if at in self.value[source]]
            touched = any(at in self.announced[source] for _, _, at in inside)
            touched = touched or (bool(residual) and (y, x) in self.announced[residual])
            if not touched and self.value.get(name):
                continue
            active.add((y, x))
            out = []
            for channel in range(conv.out_channels):
                first = channel // per_group_out * per_group_in
                total = float(conv.bias[channel])
                for i, j, at in inside:
                    for k in range(per_group_in):
                        total += float(conv.weight[channel, k, i, j]) * self.value[source][at][first + k]
                if residual:
                    total += self.value[residual][y, x][channel]
                out.append(max(total, 0.0) if relu else total)
            fresh[y, x] = out
        self.keep(name, fresh, active)

    def keep(self, name: str, fresh: dict[tuple[int, int], list[float]], active: set[tuple[int, int]]) -> None:
        self.active[name] = active
        if name not in self.value:
            self.value[name] = dict(fresh)
            self.told[name] = {p: self.copy(values, name) for p, values in fresh.items()}
            self.moved[name] = dict.fromkeys(fresh, 0.0)
            self.announced[name] = set(active)
            return
        self.announced[name] = set()
        for p in active:
            self.moved[name][p] += _rms(fresh[p], self.value[name][p])
            self.value[name][p] = fresh[p]
            by_copy = _rms(fresh[p], self.told[name][p])
            if (self.moved[name][p] if self.form == "accumulated" else by_copy) > self.thresholds[name]:
                self.announced[name].add(p)
                self.told[name][p], self.moved[name][p] = self.copy(fresh[p], name), 0.0

    def copy(self, values: list[float], name: str) -> list[float]:
        """What a record remembers; at threshold 0 that is what was announced, however coarse the copy."""
        coarse = self.form == "coarse" and self.thresholds[name] > 0
        return torch.tensor(values).bfloat16().tolist() if coarse else values


def _rms(a: list[float], b: list[float]) -> float:
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) / len(a))


@pytest.mark.parametrize("form", ["reference", "coarse", "accumulated"])
@pytest.mark.parametrize("scale", [0.0, 0.03, 0.3])
def test_the_executor_follows_the_definition(form: str, scale: float, executor: str) -> None:
    dtype, rounding = (torch.float64, 1e-12) if executor == "reference" else (torch.float32, 2e-6)
    model = Three().to(dtype)
    thresholds = {"x": scale, "a": 0.5 * scale, "b": 0.7 * scale, "c": 0.0}
    brute = BruteForce(model, thresholds, form)
    stream = saccade.Stream(
        model,
        torch.zeros(1, 2, 9, 11, dtype=dtype),
        threshold={name: thresholds[name] for name in ("x", "a", "b")},
        record=form,
        executor=executor,
    )
    partial = 0
    for frame in moving_square(7, (9, 11), noise=0.02):
        pixels = frame[:, :2].to(dtype).contiguous()
        out = stream(pixels)
        brute.frame(pixels)
        announced = {cost.name: cost.announced for cost in stream.step_costs}
        for name in ("a", "b", "c"):
            mask = stream.active[name][0, 0]
            assert {tuple(p) for p in mask.nonzero().tolist()} == brute.active[name], name
            partial += 0 < int(mask.sum()) < mask.numel()
            if name != "c":
                assert announced[name] == len(brute.announced[name]), name
        for (y, x), value in brute.value["c"].items():
            expected = torch.tensor(value, dtype=torch.float64)
            torch.testing.assert_close(out[0, :, y, x].double(), expected, rtol=rounding, atol=rounding)
    assert scale == 0.0 or partial > 3


def test_channel_weights_decide_what_is_announced(executor: str) -> None:
    """A change in a channel of weight 0 is kept quiet, one of the same size in a weighted channel is announced."""
    model = nn.Sequential(nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1))
    gate = saccade.Gate(0.5, torch.tensor([0.0, 4.0]))
    stream = saccade.Stream(model, torch.zeros(1, 2, 3, 3), threshold={"input": gate}, executor=executor)
    base = torch.zeros(1, 2, 3, 3)
    stream(base)
    quiet = base.clone()
    quiet[0, 0, 1, 1] = 9.0
    stream(quiet)
    assert stream.cost.executed_macs == 0
    below, above = base.clone(), base.clone()
    below[0, 1, 1, 1] = 0.24  # sqrt(4 * 0.24^2) = 0.48
    above[0, 1, 1, 1] = 0.26
    stream(below)
    assert stream.cost.executed_macs == 0
    stream(above)
    assert stream.cost.executed_macs > 0
