"""How alike the feature maps of one layer are in one clip (VA-RED2, appendix C), exactly and pair by pair.

A map is one channel of one frame, H x W numbers as the convolution puts them out. Along time, maps of the same channel
are compared, every frame with every other; along channels, maps of the same frame, every channel with every other.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from saccade.errors import InputError

Dimension = Literal["time", "channel"]
DIMENSIONS: tuple[Dimension, ...] = ("time", "channel")
_EPSILON = torch.finfo(torch.float32).eps
CHUNK = 1 << 22  # numbers held in float64 at a time, 32 MiB; a matrix of one group's pairs may be larger


@dataclass(frozen=True)
class Thresholds:
    """From where on two maps count as redundant: `cc` above one, `rmse` below the other.

    Args:
        cc: Pearson's correlation coefficient, in [-1, 1); the paper's 0.85.
        rmse: in units of the layer's range, see `Similarity`; more than 0.

    Raises:
        InputError: a threshold that all or no pairs would pass.
    """

    cc: float = 0.85
    rmse: float = 0.05

    def __post_init__(self) -> None:
        if not -1 <= self.cc < 1:
            raise InputError(f"the threshold of the correlation coefficient is {self.cc:g}; expected -1 to below 1")
        if not 0 < self.rmse < math.inf:
            raise InputError(f"the threshold of the RMSE is {self.rmse:g}; expected more than 0 (of a layer's range)")


@dataclass(frozen=True)
class Similarity:
    """How alike a layer's maps are along one dimension, in one clip. Means and shares are over all pairs or maps.

    Two maps that are both constant have CC 1 (one is the other, shifted), a constant one and another have 0. Constant
    is a map whose standard deviation is below the resolution of float32 at its largest magnitude.

    Attributes:
        pairs: how many pairs of maps were compared, each once.
        cc: mean of Pearson's correlation coefficient, sign included.
        cc_absolute: mean of its absolute value: a linear operation can turn the sign.
        cc_nearest: mean over the maps of the highest CC that each has with another.
        rmse: mean of the root mean squared difference, in units of the layer's range in this clip: its largest value
            less its smallest, over all maps. So it does not depend on the scale of a layer, but on a map's own within.
        correlated_pairs: share of pairs with CC above its threshold.
        redundant_pairs: share of pairs with CC above and RMSE below their thresholds (RP).
        redundant_maps: share of maps that are in such a pair.
    """

    pairs: int
    cc: float
    cc_absolute: float
    cc_nearest: float
    rmse: float
    correlated_pairs: float
    redundant_pairs: float
    redundant_maps: float


@dataclass(frozen=True)
class Rebuilt:
    """What one scaled and shifted channel of the first half gives of each channel of the second half.

    The first half is the first ceil(C / 2) channels, the scale one number per pair for the whole clip: the least that
    a cheap operation can do that rebuilds the second half.

    Attributes:
        r2: R^2 of the best single predictor, mean over the second half; 1 for a channel that is constant.
        channels: share of the second half whose best predictor has abs(CC) above the threshold of CC.
    """

    r2: float
    channels: float


@dataclass(frozen=True)
class MapRedundancy:
    """One layer in one clip.

    Attributes:
        shape: (C, T, H, W) of its maps.
        time: along time; None where that does not apply.
        channel: along channels; None where that does not apply.
        rebuilt: the second half from the first; None where there is one channel.
        reasons: why a dimension does not apply.
    """

    shape: tuple[int, int, int, int]
    time: Similarity | None
    channel: Similarity | None
    rebuilt: Rebuilt | None
    reasons: dict[Dimension, str]


def map_redundancy(maps: Tensor, *, thresholds: Thresholds | None = None, frames_in_time: bool = True) -> MapRedundancy:
    """Returns how redundant the maps (C, T, H, W) of a layer are, along time and along channels.

    Sums are in float64, of maps less their means; memory beside the maps is bounded by a few C x C matrices.

    Args:
        maps: what a convolution puts out for a clip.
        thresholds: what counts as redundant.
        frames_in_time: False where the T pictures are not one clip's frames: then there is no dimension time.

    Raises:
        InputError: maps of another shape, empty, NaN or infinite.
    """
    thresholds = thresholds or Thresholds()
    if maps.ndim != 4 or 0 in maps.shape:
        raise InputError(f"maps are {tuple(maps.shape)}; expected (C, T, H, W), not empty")
    channels, frames, height, width = maps.shape
    low, high = maps.amin().item(), maps.amax().item()  # both carry a NaN along
    if not (math.isfinite(low) and math.isfinite(high)):
        raise InputError(f"maps reach from {low:g} to {high:g}: there are NaN or infinite values; expected finite ones")
    reasons: dict[Dimension, str] = {}
    if height * width == 1:
        reasons = dict.fromkeys(DIMENSIONS, "maps of one position")
    else:
        if channels == 1:
            reasons["channel"] = "one channel"
        if frames == 1 or not frames_in_time:
            reasons["time"] = "one frame" if frames == 1 else "its pictures are not the clip's frames"
    flat = maps.flatten(2)
    scale = high - low
    time = channel = rebuilt = None
    if "time" not in reasons:
        time, _ = _compare(flat, scale, thresholds)
    if "channel" not in reasons:
        channel, covariance = _compare(flat.transpose(0, 1), scale, thresholds)
        rebuilt = _rebuild(covariance, thresholds, _resolution(maps.flatten(1)) * frames * height * width)
    return MapRedundancy((channels, frames, height, width), time, channel, rebuilt, reasons)


def _compare(maps: Tensor, scale: float, thresholds: Thresholds) -> tuple[Similarity, Tensor]:
    """Compares maps (G, M, N) within each of G groups; returns also their covariance over groups, times G N, (M, M)."""
    groups, members, positions = maps.shape
    other = ~torch.eye(members, dtype=torch.bool, device=maps.device)
    of_pairs: defaultdict[str, float] = defaultdict(float)
    of_maps: defaultdict[str, float] = defaultdict(float)
    within = torch.zeros(members, members, dtype=torch.float64, device=maps.device)
    means = []
    for part in maps.split(max(1, CHUNK // (members * max(members, positions)))):
        mean, products, constant = _moments(part)
        squares = products.diagonal(dim1=1, dim2=2)
        inverse = torch.where(constant, 0.0, squares.rsqrt())
        cc = (products * inverse[:, :, None] * inverse[:, None, :]).clamp_(-1, 1)
        cc += constant[:, :, None] & constant[:, None, :]
        difference = (squares[:, :, None] + squares[:, None, :] - 2 * products) / positions  # of the centred maps
        difference = difference.clamp_(min=0) + (mean[:, :, None] - mean[:, None, :]).square()
        rmse = difference.sqrt_() / scale if scale else difference
        correlated = (cc > thresholds.cc) & other
        redundant = correlated & (rmse < thresholds.rmse)
        of_pairs["cc"] += (cc * other).sum().item()
        of_pairs["cc_absolute"] += (cc.abs() * other).sum().item()
        of_pairs["rmse"] += (rmse * other).sum().item()
        of_pairs["correlated_pairs"] += correlated.sum().item()
        of_pairs["redundant_pairs"] += redundant.sum().item()
        of_maps["cc_nearest"] += cc.masked_fill(~other, -1).amax(2).sum().item()
        of_maps["redundant_maps"] += redundant.any(2).sum().item()
        within += products.sum(0)
        means.append(mean)
    pairs, every = groups * members * (members - 1), groups * members  # each pair both ways round
    similarity = Similarity(
        pairs=pairs // 2,
        **{name: total / pairs for name, total in of_pairs.items()},
        **{name: total / every for name, total in of_maps.items()},
    )
    between = torch.cat(means)
    between = between - between.mean(0)
    return similarity, within + positions * between.T @ between


def _moments(maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns means (G, M) of maps (G, M, N), sums of products of what deviates (G, M, M), and which are constant."""
    groups, members, positions = maps.shape
    mean = torch.zeros(groups, members, dtype=torch.float64, device=maps.device)
    for part in _positions(maps):
        mean += part.sum(2)
    mean /= positions
    products = torch.zeros(groups, members, members, dtype=torch.float64, device=maps.device)
    for part in _positions(maps):
        part -= mean[:, :, None]
        products.baddbmm_(part, part.transpose(1, 2))
    return mean, products, products.diagonal(dim1=1, dim2=2) <= positions * _resolution(maps)


def _resolution(maps: Tensor) -> Tensor:
    """Returns the variance (...) up to which maps (..., N) count as constant."""
    low, high = maps.aminmax(dim=-1)
    return (_EPSILON * torch.maximum(-low, high).double()).square()


def _positions(maps: Tensor) -> Iterator[Tensor]:
    """Yields maps (G, M, N) in float64, some positions at a time; each is the caller's own."""
    for part in maps.split(max(1, CHUNK // (maps.shape[0] * maps.shape[1])), dim=2):
        yield part.to(torch.float64, copy=True)


def _rebuild(covariance: Tensor, thresholds: Thresholds, least: Tensor) -> Rebuilt:
    """Returns what of the second half of channels the first half's best single ones explain.

    `least` (C,) is the sum of squares up to which a channel is constant.
    """
    squares = covariance.diagonal()
    half = (len(squares) + 1) // 2
    constant = squares <= least
    explained = covariance[half:, :half].square() / (squares[half:, None] * squares[None, :half])
    explained = explained.masked_fill(constant[None, :half], 0.0).masked_fill(constant[half:, None], 1.0)
    best = explained.amax(1).clamp_(max=1)
    return Rebuilt(r2=best.mean().item(), channels=(best.sqrt() > thresholds.cc).double().mean().item())
