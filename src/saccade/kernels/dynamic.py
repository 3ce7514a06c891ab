"""The dynamic convolution of VA-RED2: the arithmetic, and `saccade::dynamic_convolution`, which torch.export carries.

Clips are (B, C, T, H, W). Option k of time computes every 2**k-th output frame, option k of channels the first K_k of
them; what is left out is rebuilt by cheap linear operations (eq. 1, 7), and the output is the sum of the options, each
with its weight (eq. 5): first those of time, then, on what they give, those of channels. No more is computed than the
largest option of each dimension that has a weight over 0 (eq. 8).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from saccade.kernels.call import Call, Ref, make_call
from saccade.kernels.convolving import Geometry, convolve, sizes_on
from saccade.kernels.mixing import Cheap, empty_as, mix
from saccade.kernels.rule import Masks, Rule, Scope
from saccade.kernels.window import CONVOLUTION
from saccade.masks import ValueSpec

DYNAMIC = "saccade.dynamic_convolution.default"
Compute = Callable[[Tensor, int, int], Tensor]


def first_used(weights: Tensor) -> Tensor:
    """Returns the first option with a weight over 0, (B,), for weights (B, options); the number of options if none."""
    used = weights > 0
    return torch.where(used.any(1), used.int().argmax(1), weights.shape[1])


def compute_part(
    clips: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry, groups: int, *, stride: int, kept: int
) -> Tensor:
    """Returns every stride-th output frame of the first `kept` output channels, (B, kept, n, H, W).

    Args:
        clips: (B, C, T, H, W), padded already where the geometry does not say so.
        weight, bias, geometry, groups: of a 3D convolution, or a 2D one of each frame.
        stride: one in how many output frames.
        kept: output channels, whole groups of them.
    """
    if groups > 1:
        groups = kept * groups // len(weight)
        clips = clips[:, : groups * weight.shape[1]]
    weight, bias = weight[:kept], None if bias is None else bias[:kept]
    if weight.dim() == 5:
        return convolve(
            clips, weight, bias, geometry._replace(stride=[geometry.stride[0] * stride, *geometry.stride[1:]]), groups
        )
    pictures = clips[:, :, ::stride].transpose(1, 2).flatten(0, 1)
    return convolve(pictures, weight, bias, geometry, groups).unflatten(0, (len(clips), -1)).transpose(1, 2)


def compute_largest(
    clips: Tensor, time: Tensor, channels: Tensor, cheap: Cheap, compute: Compute, *, shape: tuple[int, int, int, int]
) -> Tensor:
    """Returns the layer's output, (B, C, T, H, W), computing the largest options in use and no more (eq. 8).

    Clips whose largest options are the same are computed together. Where no option of a dimension has a weight there is
    nothing to compute: the output is 0.

    Args:
        clips: the layer's input.
        time, channels, cheap: as of `mix`.
        compute: (clips, option of time, option of channels) -> what those options compute.
        shape: C, T, H and W of the output.
    """
    pairs = torch.stack([first_used(time), first_used(channels)], 1).tolist()
    groups: dict[tuple[int, int], list[int]] = {}
    for clip, (t, c) in enumerate(pairs):
        groups.setdefault((t, c), []).append(clip)
    found: list[tuple[list[int], Tensor]] = []
    for (t, c), members in groups.items():
        if t == time.shape[1] or c == channels.shape[1]:
            found.append((members, clips.new_zeros(len(members), *shape)))
            continue
        whole = len(groups) == 1
        y = compute(clips if whole else clips[members], t, c)
        weights = (time, channels) if whole else (time[members], channels[members])
        found.append((members, mix(y, *weights, cheap, frames=shape[1], out=shape[0], largest=(t, c))))
    if len(found) == 1:
        return found[0][1]
    output = empty_as(found[0][1], (len(clips), *shape), found[0][1].dtype)
    for members, maps in found:
        output[members] = maps
    return output


def _of_one_clip(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    time: Tensor,
    channels: Tensor,
    before: Sequence[Tensor],
    after: Sequence[Tensor],
    filters: Sequence[Tensor],
) -> Tensor:
    """Returns the dynamic convolution of one clip.

    Args:
        x: (1, C, T, H, W), or the pictures of a clip (T, C, H, W).
        weight, bias, stride, padding, dilation, groups: as of a 3D or 2D convolution.
        time, channels: weights of the options, (1, options).
        before, after, filters: as of `Cheap`.
    """
    flat, geometry = x.dim() == 4, Geometry(list(stride), list(padding), list(dilation))
    clips = x.transpose(0, 1)[None] if flat else x
    out, sizes = len(weight), _shape(x, weight, geometry)

    def compute(some: Tensor, t: int, c: int) -> Tensor:
        kept = out if c == 0 else out - len(filters[c - 1])
        return compute_part(some, weight, bias, geometry, groups, stride=2**t, kept=kept)

    shape = (out, frames_of(x.shape, sizes), sizes[-2], sizes[-1])
    maps = compute_largest(clips, time, channels, Cheap(before, after, filters), compute, shape=shape)
    return (maps[0].transpose(0, 1) if flat else maps).contiguous()


def _shape(x: Tensor, weight: Tensor, geometry: Geometry) -> list[int]:
    """Returns the shape of the plain convolution."""
    return [x.shape[0], len(weight), *sizes_on(x.shape[2:], weight.shape[2:], geometry)]


dynamic_convolution = torch.library.custom_op("saccade::dynamic_convolution", _of_one_clip, mutates_args=())


@dynamic_convolution.register_fake
def _(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    *_: object,
) -> Tensor:
    return x.new_empty(_shape(x, weight, Geometry(list(stride), list(padding), list(dilation))))


def values_computed_with(call: Call) -> tuple[str, ...]:
    """Returns the names of the values a call computes with: all it reads, but the weights of options."""
    return (call.replace(time=None, channels=None) if call.target == DYNAMIC else call).values()


def frames_of(source: Sequence[int], out: Sequence[int]) -> int:
    """Returns T of a step's output: pictures of a clip lie along the first axis, (1, C, T, H, W) has it third."""
    return source[0] if len(source) == 4 else out[2]


def convolution_macs(call: Call, scope: Scope, shape: Sequence[int]) -> int:
    """Returns the macs of a dynamic convolution that computes everything; `shape` is its output's."""
    given = call.arguments
    plain = make_call(
        "aten.convolution.default",
        given["x"],
        given["weight"],
        given["bias"],
        given["stride"],
        given["padding"],
        given["dilation"],
        False,
        [0] * len(given["stride"]),
        given["groups"],
    )
    return CONVOLUTION.macs(plain, scope, tuple(shape))


def executed_macs(call: Call, lookup: Callable[[Ref], Tensor], scope: Scope, shape: Sequence[int]) -> int:
    """Returns the macs of what the options in use compute and of rebuilding the rest; weighing is free.

    Args:
        call: the dynamic convolution.
        lookup: gives the tensors it reads.
        scope: the plan's.
        shape: of its output.
    """
    given = call.arguments
    used_time, used_channels = ((lookup(given[name])[0] > 0).tolist() for name in ("time", "channels"))
    if not (any(used_time) and any(used_channels)):
        return 0
    out, plane = shape[1], shape[-2] * shape[-1]
    frames = frames_of(scope.specs[given["x"].name].shape, shape)
    filters = [lookup(ref) for ref in given["filters"]]
    t, c = used_time.index(True), used_channels.index(True)
    computed, kept = -(-frames // 2**t), out if c == 0 else out - len(filters[c - 1])
    macs = convolution_macs(call, scope, shape) // (frames * out) * computed * kept
    for k in range(1, len(used_time)):
        taps = sum(len(lookup(given[name][k - 1])) > 0 for name in ("before", "after"))
        macs += used_time[k] * taps * (frames + -frames // 2**k) * plane * kept
    return macs + sum(used_channels[k] * filters[k - 1].numel() * frames * plane for k in range(1, len(used_channels)))


def _support(call: Call, masks: Masks, scope: Scope, out: ValueSpec) -> Tensor:
    """Everything, as soon as anything it reads was announced: its weights are of the whole clip."""
    read = [masks[name] for name in call.values()]
    if read[0].dtype == torch.bool:
        return out.full_mask(any(bool(mask.any()) for mask in read))
    return torch.stack([mask.max() for mask in read]).max().expand(out.mask_shape)


def _axis(call: Call, scope: Scope, shape: tuple[int, ...]) -> int | None:
    return 1


def _refuse(call: Call, scope: Scope) -> str:
    named = {"weights": [call.arguments["weight"], call.arguments["bias"]]}
    named |= {name: call.arguments[name] for name in ("before", "after", "filters")}
    for name, refs in named.items():
        if any(ref is not None and ref.kind != "weight" for ref in refs):
            return f"its {name} are computed at run time"
    return ""


DYNAMIC_CONVOLUTION = Rule(
    "dynamic convolution", frozenset(["dynamic_convolution"]), _support, _axis, convolution_macs, _refuse
)
