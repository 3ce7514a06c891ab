"""How redundant the feature maps of a network's convolutions are in clips (VA-RED2, appendix C and Table 12)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.utils._python_dispatch import TorchDispatchMode

from saccade.errors import InputError, ModelError, SaccadeError
from saccade.reduce.similarity import Dimension, MapRedundancy, Rebuilt, Similarity, Thresholds, map_redundancy

Seen = TypeVar("Seen")
HELD_BYTES = 1 << 30  # of feature maps kept at a time while a clip goes through a network picture by picture


class Spread(NamedTuple):
    """A quantity over clips: mean, lowest and highest."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class LayerRedundancy:
    """One convolution, in every clip.

    Attributes:
        name: of its weight, without ".weight"; a convolution called again has " (call 2)" behind it.
        clips: what was found in each clip.
    """

    name: str
    clips: tuple[MapRedundancy, ...]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(C, T, H, W) of its maps."""
        return self.clips[0].shape

    def reason(self, dimension: Dimension) -> str | None:
        """Returns why a dimension does not apply, or None where it does."""
        return self.clips[0].reasons.get(dimension)

    def spread(self, dimension: Dimension, quantity: str) -> Spread | None:
        """Returns a quantity of `Similarity` over the clips; None where the dimension does not apply."""
        return _spread([getattr(alike, quantity) for alike in self.similarities(dimension)])

    def rebuilt(self, quantity: str) -> Spread | None:
        """Returns a quantity of `Rebuilt` over the clips; None where there are no two channels."""
        found: list[Rebuilt | None] = [clip.rebuilt for clip in self.clips]
        return _spread([getattr(each, quantity) for each in found if each is not None])

    def similarities(self, dimension: Dimension) -> list[Similarity]:
        """Returns what was found along a dimension, clip by clip; empty where it does not apply."""
        found = [clip.time if dimension == "time" else clip.channel for clip in self.clips]
        return [alike for alike in found if alike is not None]


@dataclass(frozen=True)
class Redundancy:
    """What `measure_redundancy` found.

    Attributes:
        layers: the network's convolutions, in the order in which they ran.
        thresholds: what counted as redundant.
    """

    layers: tuple[LayerRedundancy, ...]
    thresholds: Thresholds

    @property
    def clips(self) -> int:
        """How many clips there were."""
        return len(self.layers[0].clips)

    def spread(self, dimension: Dimension, quantity: str) -> Spread | None:
        """Returns a quantity of `Similarity`, the plain mean over the layers that have the dimension, over the clips.

        So it is in Table 12. None where no layer has the dimension.
        """
        return _over_clips([[getattr(a, quantity) for a in layer.similarities(dimension)] for layer in self.layers])

    def rebuilt(self, quantity: str) -> Spread | None:
        """Returns a quantity of `Rebuilt`, the plain mean over the layers with two channels, over the clips."""
        found = [[clip.rebuilt for clip in layer.clips if clip.rebuilt is not None] for layer in self.layers]
        return _over_clips([[getattr(each, quantity) for each in row] for row in found])


def measure_redundancy(
    model: nn.Module | ExportedProgram,
    clips: Iterable[Tensor],
    *,
    thresholds: Thresholds | None = None,
    held_bytes: int = HELD_BYTES,
    on_clip: Callable[[], None] = lambda: None,
) -> Redundancy:
    """Returns how alike the feature maps of every 2d and 3d convolution are, as they come out of it.

    What comes out: before the norm and the non-linearity. Convolutions are met where torch runs them, so that those of
    exported programs and of plain functions count too; transposed ones do not. Nothing is attached to the network. A
    2d convolution inside a network of clips may see the frames as pictures: then they are its dimension time.

    Args:
        model: in evaluation mode.
        clips: each (1, C, T, H, W), for a network of clips; or (T, C, H, W), for a network of pictures (1, C, H, W),
            which sees the frames one by one.
        thresholds: what counts as redundant.
        held_bytes: about how much of a picture network's maps to hold at a time; where they are more, the frames go
            through it again for the next layers.
        on_clip: called after every clip.

    Raises:
        InputError: no clip, one of another form or that the network does not take, NaN or infinite maps, a network in
            training mode, or one that runs other convolutions for other frames or clips.
        ModelError: the network runs no such convolution.
    """
    if isinstance(model, nn.Module) and model.training:
        raise InputError("the network is in training mode, in which it changes as it runs; call model.eval() first")
    network = model.module() if isinstance(model, ExportedProgram) else model
    thresholds = thresholds or Thresholds()
    found: dict[str, list[MapRedundancy]] = {}
    count, shape = 0, None
    for count, clip in enumerate(clips, 1):
        shape = shape or clip.shape
        if clip.shape != shape:
            raise InputError(f"clip {count} is {tuple(clip.shape)} and the first {tuple(shape)}; expected equal clips")
        if clip.ndim == 5 and clip.shape[0] == 1 and clip.shape[2] >= 1:
            layers = _whole(network, clip, thresholds)
        elif clip.ndim == 4 and clip.shape[0] >= 1:
            layers = _by_picture(network, clip, thresholds, held_bytes)
        else:
            raise InputError(
                f"a clip is {tuple(clip.shape)}; expected (1, C, T, H, W), or (T, C, H, W) for a network of pictures"
            )
        if not layers:
            raise ModelError(
                "the network runs no 2d or 3d convolution, so that it has no feature maps to compare; expected at "
                "least one nn.Conv2d or nn.Conv3d"
            )
        if count > 1 and list(layers) != list(found):
            raise InputError(_other(f"clip {count}", layers, found))
        for name, each in layers.items():
            found.setdefault(name, []).append(each)
        on_clip()
    if not count:
        raise InputError("there is no clip; expected at least one")
    return Redundancy(tuple(LayerRedundancy(name, tuple(each)) for name, each in found.items()), thresholds)


def _whole(network: nn.Module, clip: Tensor, thresholds: Thresholds) -> dict[str, MapRedundancy]:
    """Returns what is found in a clip (1, C, T, H, W), by convolution, each compared as it is computed."""

    def compare(name: str, out: Tensor) -> MapRedundancy:
        if out.ndim == 4:  # pictures: of the clip's frames, if there are as many or but one
            return _named(name, out.transpose(0, 1), thresholds, timed=len(out) in (1, clip.shape[2]))
        return _named(name, out.transpose(0, 1).flatten(1, 2), thresholds, timed=len(out) == 1)

    return _run(network, clip, compare)


def _by_picture(network: nn.Module, clip: Tensor, thresholds: Thresholds, held_bytes: int) -> dict[str, MapRedundancy]:
    """Returns what is found in frames (T, C, H, W) that go through a network one by one, by convolution."""
    sizes = _run(network, clip[:1], lambda name, out: len(clip) * out.nbytes)
    found: dict[str, MapRedundancy] = {}
    for group in _groups(sizes, held_bytes):
        held: dict[str, list[Tensor]] = {name: [] for name in group}
        for t, frame in enumerate(clip):  # copies: what comes next may write into what a convolution put out
            ran = _run(network, frame[None], lambda name, out: out.clone() if name in group else None)  # noqa: B023
            if list(ran) != list(sizes):
                raise InputError(_other(f"frame {t + 1}", ran, sizes))
            for name, out in ran.items():
                if out is not None:
                    held[name].append(out)
        for name in group:
            frames = held.pop(name)
            if len({out.shape for out in frames}) > 1:
                raise InputError(f"{name} puts out maps of other shapes for other frames; expected the same for all")
            timed = frames[0].ndim == 4 and len(frames[0]) == 1  # else a network that cuts its picture in parts
            maps = torch.cat(frames).transpose(0, 1)
            found[name] = _named(name, maps.flatten(1, 2) if maps.ndim == 5 else maps, thresholds, timed=timed)
    return found


def _groups(sizes: dict[str, int], limit: int) -> list[list[str]]:
    """Returns the names in order, in groups of at most `limit` bytes, or of one name."""
    groups: list[list[str]] = []
    room = 0
    for name, size in sizes.items():
        if not groups or size > room:
            groups.append([])
            room = limit
        groups[-1].append(name)
        room -= size
    return groups


def _named(name: str, maps: Tensor, thresholds: Thresholds, *, timed: bool) -> MapRedundancy:
    try:
        return map_redundancy(maps, thresholds=thresholds, frames_in_time=timed)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


def _run(network: nn.Module, given: Tensor, see: Callable[[str, Tensor], Seen]) -> dict[str, Seen]:
    """Runs the network and returns what `see` gives for the name and output of each convolution, by its name."""
    seen: dict[str, Seen] = {}

    def add(name: str, out: Tensor) -> None:
        seen[name] = see(name, out)

    try:
        with torch.no_grad(), _Watch(network, add):
            network(given)
    except SaccadeError:
        raise
    except Exception as error:
        lines = str(error).strip().splitlines() or ["no reason given"]
        raise InputError(
            f"the network does not take an input {tuple(given.shape)}: {type(error).__name__}: {lines[0]}"
        ) from error
    return seen


class _Watch(TorchDispatchMode):
    """Shows a function the name and output of every 2d and 3d convolution that torch runs inside."""

    def __init__(self, network: nn.Module, see: Callable[[str, Tensor], None]) -> None:
        super().__init__()
        tensors = chain(network.named_buffers(), network.named_parameters())
        self._names = {tensor.data_ptr(): name.removesuffix(".weight") for name, tensor in tensors}
        self._calls: Counter[str] = Counter()
        self._see = see

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs the operator and shows what it gave."""
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket is torch.ops.aten.convolution:
            weight, transposed = args[1], args[6]
            if weight.ndim in (4, 5) and not transposed:
                name = self._names.get(weight.data_ptr(), "computed weights")
                self._calls[name] += 1
                calls = self._calls[name]
                self._see(name if calls == 1 else f"{name} (call {calls})", out)
        return out


def _spread(values: list[float]) -> Spread | None:
    return Spread(sum(values) / len(values), min(values), max(values)) if values else None


def _over_clips(rows: list[list[float]]) -> Spread | None:
    """Returns the mean over layers, spread over clips; a row is a layer, empty where it has no value."""
    filled = [row for row in rows if row]
    return _spread([sum(clip) / len(clip) for clip in zip(*filled, strict=True)])


def _other(where: str, got: Iterable[str], expected: Iterable[str]) -> str:
    differing = sorted(set(got) ^ set(expected))
    names = ", ".join(differing[:4]) or "the same, in another order"
    return (
        f"{where} ran other convolutions than the first ({names}); expected a network that runs the same ones for "
        "every input"
    )
