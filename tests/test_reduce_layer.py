"""The dynamic convolution against its definition, written out frame by frame and channel by channel in float64."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saccade.errors import InputError
from saccade.graph.mac_counter import MacCounter
from saccade.reduce import ALL, Policy, Reduce, ReducedConv2d, ReducedConv3d, ReducedModel
from saccade.reduce.gate import LEAST
from saccade.reduce.layer import _ReducedConv

KINDS = [(time, channels) for time in ("copy", "scale", "blend") for channels in ("scale", "depthwise")]


def layer(conv: nn.Module, what: Reduce, *, frames: int, seed: int = 0) -> Any:
    """Returns the dynamic form of a convolution, in float64, with gates that disagree about clips."""
    torch.manual_seed(seed)
    kind = ReducedConv3d if isinstance(conv, nn.Conv3d) else ReducedConv2d
    made = kind.from_convolution(conv.double(), what, frames=frames, name="it")
    with torch.no_grad():
        for parameter in [*made.gate.parameters(), *made.cheap.parameters()]:
            parameter.normal_()
        made.gate.outer.bias.mul_(0.3)
        made.gate.norm.running_var.fill_(0.02)  # means over space are small
    return made.eval()


def definition(made: Any, y: Tensor, time: Tensor, channels: Tensor) -> Tensor:
    """Eq. 1, 3, 5 and 7 for the full output y (C, T, H, W) of one clip and its weights."""
    cheap, (count, frames) = made.cheap, y.shape[:2]
    mixed = y
    if made.space.time > 1:
        mixed = torch.zeros_like(y)
        for k in range(made.space.time):
            stride = 2**k
            for t, c in itertools.product(range(frames), range(count)):
                i, j = divmod(t, stride)
                value = y[c, i * stride]
                if j:
                    following = y[c, (i + 1) * stride] if (i + 1) * stride < frames else y[c, i * stride]
                    a = cheap.before[k - 1][j - 1, c] if len(cheap.before[k - 1]) else 1.0
                    b = cheap.after[k - 1][j - 1, c] if len(cheap.after[k - 1]) else 0.0
                    value = a * y[c, i * stride] + b * following
                mixed[c, t] += time[k] * value
    if made.space.channels == 1:
        return mixed
    out = torch.zeros_like(y)
    for k in range(made.space.channels):
        kept = math.ceil(math.ceil(count / 2**k) / made.space.step) * made.space.step
        for c, t in itertools.product(range(count), range(frames)):
            value = mixed[c, t]
            if c >= kept:
                weight = cheap.filters[k - 1][c - kept, 0, 0]
                source = mixed[(c - kept) % kept, t]
                around = [side // 2 for side in weight.shape]
                value = F.conv2d(source[None, None], weight[None, None], padding=around)[0, 0]
            out[c, t] += channels[k] * value
    return out


CONVOLUTIONS = {
    "3d": lambda: nn.Conv3d(5, 9, 3, (2, 1, 2), 1),
    "spatial": lambda: nn.Conv3d(3, 8, (1, 3, 3), (1, 2, 2), (0, 1, 1), bias=False),
    "temporal": lambda: nn.Conv3d(6, 7, (3, 1, 1), padding=(1, 0, 0), padding_mode="replicate"),
    "pointwise": lambda: nn.Conv3d(40, 6, 1),
    "depthwise": lambda: nn.Conv3d(6, 6, (5, 3, 3), padding=(2, 1, 1), groups=6),
    "grouped": lambda: nn.Conv3d(6, 12, 3, padding="same", groups=3),
    "2d": lambda: nn.Conv2d(5, 9, 3, 2, 1),
    "one channel": lambda: nn.Conv3d(4, 1, 3, padding=1),
}


def clips_for(conv: nn.Module, frames: int, batch: int, seed: int = 1) -> Tensor:
    torch.manual_seed(seed)
    channels = int(conv.in_channels)  # type: ignore[arg-type]
    return torch.randn(batch, channels, frames, 7, 10, dtype=torch.float64)


class Fed(nn.Module):
    """A layer fed clips (B, C, T, H, W), as its network would feed it."""

    def __init__(self, made: Any) -> None:
        super().__init__()
        self.made = made

    def forward(self, clips: Tensor) -> Tensor:
        """Return the layer's output as clips."""
        return as_clips(self.made, self.made(given(self.made, clips)), len(clips))


def given(conv: nn.Module, clips: Tensor) -> Tensor:
    return clips if isinstance(conv, nn.Conv3d) else clips.transpose(1, 2).flatten(0, 1)


def as_clips(conv: nn.Module, output: Tensor, batch: int) -> Tensor:
    return output if isinstance(conv, nn.Conv3d) else output.unflatten(0, (batch, -1)).transpose(1, 2)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("time", "channels"), KINDS)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_training_and_inference_give_the_definition(name: str, time: Any, channels: Any, training: bool) -> None:
    conv = CONVOLUTIONS[name]()
    made = layer(conv, Reduce(time=3, channels=3, cheap_time=time, cheap_channels=channels, overhead=9), frames=7)
    clips = clips_for(conv, 7, 6)
    full = as_clips(conv, conv(given(conv, clips)), 6)
    made.training = training  # the gate's norm stays as it is
    output, policies = ReducedModel(Fed(made))(clips)
    (use,) = policies.reduced
    assert use.time is not None
    assert use.channels is not None
    pairs = {tuple(row) for row in torch.stack(use.largest(), 1).tolist()}
    assert len(pairs) > 1  # clips of one batch do choose differently
    for b in range(6):
        wanted = definition(made, full[b], use.time[b], use.channels[b])
        torch.testing.assert_close(output[b], wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_forced_to_compute_all_a_layer_is_the_convolution_to_the_bit(name: str) -> None:
    conv = CONVOLUTIONS[name]()
    made = layer(conv, Reduce(time=3, channels=3), frames=5).float()
    x = clips_for(conv, 5, 3).float()
    for training in (False, True):
        made.training = training
        output, policies = ReducedModel(Fed(made))(x, force=ALL)
        assert torch.equal(output, Fed(conv.float())(x))
        assert policies.macs.tolist() == [policies.dense_macs] * 3


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_every_forced_policy_is_the_same_in_training_and_inference(name: str) -> None:
    conv = CONVOLUTIONS[name]()
    made = layer(conv, Reduce(time=3, channels=3), frames=6)
    x = clips_for(conv, 6, 2)
    for t, c in itertools.product(range(4), range(4)):  # 3: more than there are, so the last
        made.training = False
        cheap, at_inference = ReducedModel(Fed(made))(x, force=Policy(t, c))
        made.training = True
        dear, in_training = ReducedModel(Fed(made))(x, force=Policy(t, c))
        torch.testing.assert_close(cheap, dear, rtol=1e-10, atol=1e-12)
        assert torch.equal(at_inference.macs, in_training.macs)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_macs_are_those_torch_runs(name: str) -> None:
    """All convolutions counted by their operators: the layer's at the policy, cheap filters, and no others."""
    conv = CONVOLUTIONS[name]()
    made = layer(conv, Reduce(time=3, channels=3, cheap_time="copy", overhead=9), frames=6)
    x = clips_for(conv, 6, 1)
    filters = any(weight.shape[-1] > 1 for weight in made.cheap.filters)
    for t, c in itertools.product(range(3), range(3)):
        with torch.no_grad(), MacCounter() as counted:
            _, policies = ReducedModel(Fed(made))(x, force=Policy(t, c))
        (use,) = policies.reduced
        assert use.cheap_macs is not None
        assert counted.macs == int(policies.macs) - (0 if filters else int(use.cheap_macs))


def test_macs_by_hand() -> None:
    """64 -> 144 channels, 1 x 3 x 3, 8 frames of 28 x 28: the first layer of R(2+1)D-18's stages."""
    conv = nn.Conv3d(64, 144, (1, 3, 3), padding=(0, 1, 1))
    made = layer(conv, Reduce(hidden=16), frames=8).float()
    _, policies = ReducedModel(made)(torch.zeros(1, 64, 8, 28, 28), force=Policy(1, 1))
    plane = 28 * 28
    half_of_both = 4 * plane * 72 * 64 * 9
    frames, channels = 2 * 4 * plane * 72, 8 * plane * 72 * 9
    assert policies.dense_macs == 8 * plane * 144 * 64 * 9
    assert policies.macs.tolist() == [half_of_both + frames + channels]
    made.training = True
    _, policies = ReducedModel(made)(torch.zeros(2, 64, 8, 28, 28))
    assert policies.reduced[0].gate_macs == 64 * 8 * plane + 64 * 8 * 16 + 16 * 4 + 4 * 4


@pytest.mark.parametrize(("training", "recompute"), [(True, False), (True, True), (False, False)])
@pytest.mark.parametrize(("options", "time", "channels"), [(2, *KINDS[-1]), *((3, *kind) for kind in KINDS)])
def test_the_gradient_is_that_of_the_definition(
    options: int, time: Any, channels: Any, training: bool, recompute: bool
) -> None:
    conv = CONVOLUTIONS["3d"]()
    what = Reduce(time=options, channels=options, cheap_time=time, cheap_channels=channels, overhead=9)
    made = layer(conv, what, frames=7)
    made.training = training
    clips = clips_for(conv, 7, 3).requires_grad_()
    output, policies = ReducedModel(made, recompute=recompute)(clips)
    toward = torch.randn_like(output)
    inputs: list[Tensor] = [clips, *made.parameters()]
    unused: dict[str, Any] = {"allow_unused": True, "materialize_grads": True}
    ours = torch.autograd.grad((output * toward).sum(), inputs, **unused)
    full = conv(clips)
    pooled = made.gate(clips.mean((-2, -1)))
    wanted = torch.stack([definition(made, full[b], pooled[b, :options], pooled[b, options:]) for b in range(3)])
    theirs = torch.autograd.grad((wanted * toward).sum(), inputs, **unused)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)
    assert policies.macs.shape == (3,)


@pytest.mark.parametrize("name", ["3d", "2d"])
def test_maps_keep_the_order_in_memory_that_the_convolution_gives(name: str) -> None:
    """While training: channels last in, channels last out; pictures of clips come back as pictures without a copy."""
    conv = CONVOLUTIONS[name]().float()
    layout = torch.channels_last_3d if name == "3d" else torch.channels_last
    made = layer(conv, Reduce(), frames=6).float()
    conv.to(memory_format=layout)  # type: ignore[call-overload]
    x = given(conv, clips_for(conv, 6, 2).float()).to(memory_format=layout)
    made.training = True
    assert made(x).is_contiguous(memory_format=layout)


@pytest.mark.parametrize(
    ("biases", "wanted", "largest"),
    [
        ([-1.0, -2.0, -1.0, 1.0, -3.0], ([0, 0, LEAST], [math.tanh(1), 0]), (2, 0)),
        ([0.02, -2.0, -1.0, -1.0, 0.01], ([math.tanh(0.02), 0, LEAST - math.tanh(0.02)], [0, LEAST]), (0, 1)),
        ([-1.0, 0.03, 0.5, 0.04, 0.04], ([0, math.tanh(0.03), math.tanh(0.5)], [math.tanh(0.04)] * 2), (1, 0)),
    ],
)
def test_the_cheapest_option_makes_up_what_the_others_lack(
    biases: list[float], wanted: tuple[list[float], list[float]], largest: tuple[int, int]
) -> None:
    conv = CONVOLUTIONS["3d"]()
    made = layer(conv, Reduce(time=3, channels=2), frames=9)
    with torch.no_grad():
        made.gate.outer.weight.zero_()
        made.gate.outer.bias.copy_(torch.tensor(biases))
    clips = clips_for(conv, 9, 2)
    full = conv(clips)
    time, channels = (torch.tensor(weights, dtype=torch.float64) for weights in wanted)
    expected = torch.stack([definition(made, full[b], time, channels) for b in range(2)])
    for training in (False, True):
        made.training = training
        output, policies = ReducedModel(made)(clips)
        torch.testing.assert_close(output, expected, rtol=1e-6, atol=1e-9)  # 0.05 is a float32 number
        (use,) = policies.reduced
        assert [which.tolist() for which in use.largest()] == [[each] * 2 for each in largest]


def test_clips_do_not_depend_on_their_neighbours() -> None:
    conv = CONVOLUTIONS["spatial"]()
    made = layer(conv, Reduce(time=3, channels=3), frames=9)
    clips = clips_for(conv, 9, 12)
    together = made(clips)
    for b in range(12):
        torch.testing.assert_close(made(clips[b : b + 1])[0], together[b], rtol=1e-12, atol=1e-13)


def test_bad_input_is_named() -> None:
    conv = nn.Conv3d(3, 8, 3, padding=1)
    made: _ReducedConv = layer(conv, Reduce(), frames=6)
    with pytest.raises(InputError, match=r"got 5 frames.*made for 6"):
        made(torch.zeros(1, 3, 5, 8, 8, dtype=torch.float64))
    with pytest.raises(InputError, match=r"got 4 axes.*expected 5"):
        made(torch.zeros(3, 5, 8, 8, dtype=torch.float64))
    flat = layer(nn.Conv2d(3, 8, 3), Reduce(), frames=6)
    with pytest.raises(InputError, match="got 7 pictures; expected whole clips of 6"):
        flat(torch.zeros(7, 3, 8, 8, dtype=torch.float64))
    with pytest.raises(InputError, match="nothing to leave out"):
        ReducedConv3d.from_convolution(nn.Conv3d(3, 1, 3), Reduce(), frames=3)  # one frame is left of three
    with pytest.raises(InputError, match="expected 1 to 8"):
        Reduce(time=0)
    with pytest.raises(InputError, match="expected one of copy, scale, blend"):
        Reduce(cheap_time="guess")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="got -1 and 0"):
        Policy(-1)
