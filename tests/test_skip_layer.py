"""The gated layer against its definition in float64, position by position."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from skip_definition import GateRule, Layer, blocks, follow
from torch import Tensor, nn

from saccade.errors import InputError
from saccade.kernels.gated import in_blocks
from saccade.skip import ClipModel, ClipState, Gumbel, InputNorm, OutputNorm, Skip, SkipConv2d, SkipConv3d, gate_loss
from saccade.skip.gates import sample

# channels, outputs, kernel, stride, padding, dilation, groups, size
SHAPES_2D = [
    (3, 4, (3, 3), (1, 1), (1, 1), (1, 1), 1, (9, 7)),
    (4, 6, (3, 3), (2, 2), (1, 1), (1, 1), 2, (11, 8)),
    (5, 5, (3, 3), (1, 1), (2, 2), (2, 2), 5, (7, 13)),
    (2, 3, (1, 1), (1, 1), (0, 0), (1, 1), 1, (5, 5)),
    (2, 3, (5, 1), (3, 1), (2, 0), (1, 1), 1, (13, 3)),
    (3, 2, (3, 3), (2, 1), (0, 2), (1, 2), 1, (8, 9)),
    (1, 1, (1, 3), (1, 1), (0, 1), (1, 1), 1, (1, 4)),
]
SHAPES_3D = [
    (2, 3, (3, 3, 3), (1, 1, 1), (1, 1, 1), (1, 1, 1), 1, (3, 5, 5)),
    (2, 2, (1, 3, 3), (1, 2, 2), (0, 1, 1), (1, 1, 1), 2, (2, 7, 5)),
]
KINDS = ["input", "output", "phi", "|phi|"]


def moving(channels: int, size: tuple[int, ...], frames: int, seed: int) -> Tensor:
    """Returns a clip (T, C, ...) of which each frame changes a few positions, and the first pair nothing."""
    random = torch.Generator().manual_seed(seed)
    clip = [torch.randn(channels, *size, generator=random, dtype=torch.float64)]
    for t in range(frames - 1):
        change = torch.randn(channels, *size, generator=random, dtype=torch.float64)
        where = torch.rand(1, *size, generator=random) < (0.0 if t == 0 else 0.3)
        clip.append(clip[-1] + change * where)
    return torch.stack(clip)


def make(shape: tuple, kind: str, *, block: int, form: str, seed: int = 0) -> tuple[nn.Module, Layer, GateRule]:
    """Returns a layer in float64 and what the definition needs of it."""
    channels, outputs, kernel, stride, padding, dilation, groups, _ = shape
    torch.manual_seed(seed)
    number = {"input": 0.3 * channels * math.prod(kernel), "output": 0.2}.get(kind, -0.1)
    learned = Gumbel(bias=number, magnitude=kind == "|phi|")
    gate = {"input": InputNorm, "output": OutputNorm}.get(kind, lambda _: learned)(number)
    cls = SkipConv2d if len(kernel) == 2 else SkipConv3d
    layer = cls(
        channels,
        outputs,
        kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        what=Skip(gate, block=block, form=form),
    )
    layer = layer.double().eval()
    phi = None
    if layer.gate is not None:
        nn.init.normal_(layer.gate.weight)
        phi = layer.gate.weight.detach()[0].numpy()
    definition = Layer(layer.weight.detach().numpy(), layer.bias.detach().numpy(), stride, padding, dilation, groups)
    return layer, definition, GateRule(kind, number, phi)


@pytest.mark.parametrize("form", ["residual", "refresh"])
@pytest.mark.parametrize("block", [1, 2, 4, 8])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES_2D + SHAPES_3D, ids=str)
def test_the_layer_is_its_definition(shape: tuple, kind: str, block: int, form: str) -> None:
    layer, definition, rule = make(shape, kind, block=block, form=form)
    clips = [moving(shape[0], shape[-1], 5, seed) for seed in (1, 2)]
    with torch.no_grad():
        z = layer(torch.stack(clips))
    fired = []
    for clip, found in zip(clips, z, strict=True):
        wanted, masks = follow(
            clip.numpy(), definition, rule, block=block, form=form, reference=[True, False, False, False, False]
        )
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-12, atol=1e-12)
        fired.append(masks[1:].mean())
    assert max(fired) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_thresholds_above_fire_here_and_not_there(kind: str) -> None:
    """Otherwise the comparison with the definition would be of gates that always or never fire."""
    shape = SHAPES_2D[0]
    _, definition, rule = make(shape, kind, block=1, form="residual")
    _, masks = follow(
        moving(shape[0], shape[-1], 5, 1).numpy(),
        definition,
        rule,
        block=1,
        form="residual",
        reference=[True] + [False] * 4,
    )
    assert 0.1 < masks[2:].mean() < 0.9


@pytest.mark.parametrize("form", ["residual", "refresh"])
@pytest.mark.parametrize("every", [1, 2, 3, None])
def test_reference_frames_are_computed_whole(every: int | None, form: str) -> None:
    shape = SHAPES_2D[0]
    layer, definition, rule = make(shape, "phi", block=1, form=form)
    clip = moving(shape[0], shape[-1], 7, 3)
    reference = [t == 0 if every is None else t % every == 0 for t in range(7)]
    wanted, masks = follow(clip.numpy(), definition, rule, block=1, form=form, reference=reference)
    with torch.no_grad():
        found, firing = ClipModel(layer, reference_every=every)(clip[None], masks=True)
    np.testing.assert_allclose(found[0].numpy(), wanted, rtol=1e-12, atol=1e-12)
    assert firing.reference.tolist() == reference
    assert np.array_equal(firing.calls[0].mask[0].numpy(), masks)
    np.testing.assert_allclose(firing.calls[0].share[0].numpy(), masks.mean((1, 2)))


@pytest.mark.parametrize("form", ["residual", "refresh"])
@pytest.mark.parametrize("cuts", [[7], [1] * 7, [3, 1, 3], [2, 5]], ids=str)
def test_a_video_in_pieces_is_the_video(cuts: list[int], form: str) -> None:
    layer, _, _ = make(SHAPES_2D[1], "phi", block=2, form=form)
    clip = moving(SHAPES_2D[1][0], SHAPES_2D[1][-1], 7, 4)[None]
    run, state = ClipModel(layer, reference_every=5), ClipState()
    with torch.no_grad():
        whole, firing = run(clip)
        parts = [run(piece, state) for piece in clip.split(cuts, 1)]
    torch.testing.assert_close(torch.cat([part for part, _ in parts], 1), whole, rtol=1e-12, atol=1e-12)
    assert torch.cat([part.macs for _, part in parts], 1).tolist() == firing.macs.tolist()
    assert state.frames == 7


@pytest.mark.parametrize("form", ["residual", "refresh"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_gate_that_always_fires_leaves_the_convolution(kind: str, form: str) -> None:
    for shape in SHAPES_2D + SHAPES_3D:
        layer, _, _ = make(shape, kind, block=1, form=form)
        gate = {"input": InputNorm(0.0), "output": OutputNorm(0.0)}.get(kind, Gumbel())
        layer.what = Skip(gate, form=form)
        if layer.gate is not None:
            nn.init.zeros_(layer.gate.weight)
            nn.init.ones_(layer.gate.bias)
        clip = torch.randn(2, 4, shape[0], *shape[-1], dtype=torch.float64)
        plain = nn.Conv2d.forward if len(shape[2]) == 2 else nn.Conv3d.forward
        with torch.no_grad():
            dense = plain(layer, clip.flatten(0, 1)).unflatten(0, (2, 4))
            found = layer(clip)
        if form == "refresh":
            assert torch.equal(found, dense)
        torch.testing.assert_close(found, dense, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("padding", ["same", "valid", 1])
@pytest.mark.parametrize("mode", ["zeros", "reflect", "circular", "replicate"])
def test_every_padding_is_the_convolutions(padding: str | int, mode: str) -> None:
    conv = nn.Conv2d(2, 3, (5, 3), padding=padding, padding_mode=mode, dtype=torch.float64)
    layer = SkipConv2d.from_convolution(conv, Skip(InputNorm(0.0)))
    x = torch.randn(6, 2, 9, 8, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), conv(x), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(layer(x[None])[0], conv(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("size", "stride", "kernel"), list(itertools.product([5, 8, 9], [1, 2, 3], [1, 2, 3, 5])))
def test_same_padding_gives_one_output_per_stride(size: int, stride: int, kernel: int) -> None:
    layer = SkipConv2d(2, 3, kernel, stride=stride, what=Skip(InputNorm(0.0)), same=True)
    x = torch.randn(1, 2, size, size + 1)
    assert tuple(layer(x).shape[2:]) == (math.ceil(size / stride), math.ceil((size + 1) / stride))


def test_blocks_are_squares_of_the_map() -> None:
    random = np.random.default_rng(0)
    for height, width, side in itertools.product([1, 5, 8, 13], [1, 7, 16], [1, 2, 3, 4, 8]):
        fired = random.random((2, 1, height, width)) < 0.15
        found = in_blocks(torch.from_numpy(fired).double(), side).numpy() > 0.5
        assert np.array_equal(found, blocks(fired, side))


def test_a_sample_fires_as_often_as_its_sigmoid_says() -> None:
    torch.manual_seed(0)
    for chance in (0.03, 0.5, 0.9):
        score = torch.full((200_000,), math.log(chance / (1 - chance)), requires_grad=True)
        fired = sample(score, temperature=0.7)
        assert set(fired.detach().unique().tolist()) <= {0.0, 1.0}
        assert abs(float(fired.detach().mean()) - chance) < 4 * math.sqrt(chance * (1 - chance) / 200_000)
        fired.sum().backward()
        assert score.grad is not None
        assert bool((score.grad >= 0).all())


def test_a_samples_gradient_is_the_noisy_sigmoids() -> None:
    score = torch.linspace(-3, 3, 41, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(5)
    sample(score, temperature=0.5).sum().backward()
    torch.manual_seed(5)
    uniform = torch.rand_like(score)
    noisy = (score.detach() + torch.log(uniform / (1 - uniform))) / 0.5
    soft = torch.sigmoid(noisy)
    torch.testing.assert_close(score.grad, soft * (1 - soft) / 0.5, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("form", ["residual", "refresh"])
def test_weights_and_gates_have_the_gradient_of_the_definition(form: str) -> None:
    """With noise held still the layer is piecewise smooth in everything but the gate's step."""
    torch.manual_seed(0)
    layer = SkipConv2d(2, 3, 3, padding=1, what=Skip(InputNorm(4.0), form=form)).double()
    clip = torch.randn(1, 3, 2, 5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda w, x: _with_weight(layer, w, x), (layer.weight.detach().requires_grad_(), clip)
    )


def _with_weight(layer: SkipConv2d, weight: Tensor, clip: Tensor) -> Tensor:
    found: Tensor = torch.func.functional_call(layer, {"weight": weight}, (clip,))
    return found


def test_the_gate_loss_is_equation_9() -> None:
    torch.manual_seed(1)
    network = nn.Sequential(
        SkipConv2d(2, 4, 3, padding=1, what=Skip(Gumbel(bias=0.3)), name="a"),
        nn.ReLU(),
        nn.Conv2d(4, 4, 1),
        SkipConv2d(4, 3, 3, stride=2, what=Skip(Gumbel(bias=-0.2), block=2), name="b"),
    )
    network.train()
    _, firing = ClipModel(network)(torch.randn(3, 5, 2, 9, 9), masks=True)
    macs = {"a": 81 * 4 * 2 * 9, "2": 81 * 16, "b": 16 * 3 * 4 * 9}
    assert {call.name: call.macs for call in firing.calls} == macs
    total = sum(macs.values())
    gated = [call for call in firing.calls if call.gated]
    wanted = 0.0
    for t in range(1, 5):
        for call in gated:
            wanted += call.macs / total * call.mask[:, t].double().mean().item() / 4
    found = gate_loss(firing)
    assert math.isclose(found.item(), wanted, rel_tol=1e-5)
    found.backward()
    assert all(float(layer.gate.bias.grad) > 0 for layer in (network[0], network[3]))


def test_macs_are_counted_by_hand() -> None:
    clip = torch.randn(1, 3, 3, 9, 9)
    layer = SkipConv2d(3, 4, 3, padding=1, what=Skip(Gumbel(bias=-1.0)), name="x").eval()
    nn.init.zeros_(layer.gate.weight)
    _, firing = ClipModel(nn.Sequential(layer, nn.ReLU(), nn.Conv2d(4, 2, 1)))(clip)
    assert firing.dense_macs == 81 * 4 * 27 + 81 * 8
    later = 81 * 27 + 81 * 8  # phi at every position, and the layer without a gate
    assert firing.macs.tolist() == [[firing.dense_macs, later, later]]
    assert firing.shares() == {"x": 0.0}
    norm = SkipConv2d(3, 2, 3, stride=2, what=Skip(InputNorm(1e9)), name="y").eval()
    _, firing = ClipModel(nn.Sequential(norm))(clip)
    later = 16 * 9 + 81 * 3  # the window, and the channels summed once
    assert firing.macs.tolist() == [[16 * 2 * 27, later, later]]


def test_a_gate_is_paid_for_where_something_under_it_changed() -> None:
    layer = SkipConv2d(2, 3, 3, padding=1, dilation=1, what=Skip(Gumbel(bias=-1.0)), name="x").eval()
    clip = torch.zeros(1, 3, 2, 9, 9)
    clip[:, 1:, 1, 4, 0] = 1.0  # one pixel at the edge changes in the second frame, and nothing after that
    _, firing = ClipModel(nn.Sequential(layer))(clip)
    assert firing.macs.tolist() == [[81 * 54, 6 * 18, 0]]
    _, firing = ClipModel(nn.Sequential(layer.train()))(clip)
    assert firing.calls[0].decided.tolist() == [[0, 1, 1]]


def test_a_gate_on_the_size_of_changes_starts_as_an_input_norm_gate() -> None:
    clip = moving(3, (9, 7), 5, 1).float()[None]
    learned = SkipConv2d(3, 2, 3, padding=1, what=Skip(Gumbel(magnitude=True, bias=-6.0)), name="x").eval()
    norm = SkipConv2d(3, 2, 3, padding=1, what=Skip(InputNorm(6.0)), name="x").eval()
    masks = [ClipModel(layer)(clip, masks=True)[1].calls[0].mask for layer in (learned, norm)]
    assert torch.equal(*masks)
    assert 0.1 < masks[0][:, 2:].float().mean() < 0.9


def test_nothing_stays_on_the_layer() -> None:
    layer, _, _ = make(SHAPES_2D[0], "phi", block=1, form="residual")
    before = {name: id(value) for name, value in vars(layer).items()}
    buffers = {name: value.clone() for name, value in layer.state_dict().items()}
    layer(torch.randn(1, 4, 3, 9, 7, dtype=torch.float64))
    ClipModel(layer)(torch.randn(1, 4, 3, 9, 7, dtype=torch.float64), ClipState())
    assert {name: id(value) for name, value in vars(layer).items()} == before
    assert all(torch.equal(buffers[name], value) for name, value in layer.state_dict().items())


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (lambda: InputNorm(-1.0), "threshold is -1.0; expected a finite number of at least 0"),
        (lambda: OutputNorm(math.nan), "threshold is nan"),
        (lambda: Gumbel(temperature=0.0), "temperature must be a positive number, got 0.0"),
        (lambda: Skip(Gumbel(), block=0), "a block is 0 positions wide"),
        (lambda: Skip(Gumbel(), form="x"), "unknown form 'x'; expected 'residual' or 'refresh'"),
        (lambda: Skip("gumbel"), "unknown gate 'gumbel'; expected InputNorm"),  # type: ignore[arg-type]
        (lambda: ClipModel(nn.Conv2d(1, 1, 1), reference_every=0), "reference_every is 0; expected a whole number"),
        (lambda: ClipModel(nn.Conv2d(1, 1, 1))(torch.zeros(3, 4)), r"got a clip of shape \(3, 4\)"),
        (lambda: ClipModel(nn.Flatten(0, 1))(torch.zeros(1, 2, 3, 4, 4)), "expected their number as the first axis"),
        (lambda: SkipConv2d(1, 1, 1, what=Skip(InputNorm()))(torch.zeros(4, 4)), "expected a clip with 5"),
    ],
)
def test_what_makes_no_sense_is_said(what: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        what()  # type: ignore[operator]


def test_a_state_of_another_network_is_refused() -> None:
    one, other = (SkipConv2d(1, 1, 1, what=Skip(InputNorm()), name=name) for name in "ab")
    state = ClipState()
    ClipModel(one)(torch.zeros(1, 2, 1, 3, 3), state)
    with pytest.raises(InputError, match="no frame before this clip"):
        ClipModel(other)(torch.zeros(1, 2, 1, 3, 3), state)


def test_an_even_kernel_with_same_padding_pads_the_far_side_more() -> None:
    layer = SkipConv2d(2, 3, (4, 3), padding="same", what=Skip(InputNorm(0.0))).double()
    x = torch.randn(2, 2, 9, 8, dtype=torch.float64)
    wanted = nn.functional.conv2d(nn.functional.pad(x, (1, 1, 1, 2)), layer.weight, layer.bias)
    torch.testing.assert_close(layer(x), wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("gate", [InputNorm(0.0), OutputNorm(0.0), Gumbel(bias=0.0)])
def test_nothing_fires_where_nothing_changed(gate: InputNorm | OutputNorm | Gumbel) -> None:
    """The decision is strict: round(sigmoid(0)) is 0."""
    layer = SkipConv2d(2, 3, 3, padding=1, what=Skip(gate)).eval()
    clip = torch.randn(1, 1, 2, 6, 5).expand(1, 4, 2, 6, 5)
    _, firing = ClipModel(nn.Sequential(layer))(clip)
    assert firing.calls[0].share.tolist() == [[1.0, 0.0, 0.0, 0.0]]
