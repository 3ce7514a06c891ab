"""Deep Feature Flow: features of key frames, moved by optical flow, read by the head on every frame.

Zhu et al. 2017, "Deep feature flow for video recognition". Theirs learns its flow, and a scale for the moved features,
with the network; here the flow is a classical one (dense inverse search, OpenCV, the extra ``flow``) and there is no
scale, so nothing is trained. Such a flow has no macs that could be counted beside a network's: its milliseconds are
reported beside the macs, not in them.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils import _pytree as pytree

from saccade.errors import InputError, MissingExtraError
from saccade.graph.mac_counter import MacCounter
from saccade.rivals.ledger import ClipRun, check_clip, stack_frames
from saccade.skip.warp import warp

# From where in `key` the content at each place of `current` comes: both (H, W) uint8, result (H, W, 2) x, y in pixels.
Flow = Callable[[NDArray[np.uint8], NDArray[np.uint8]], NDArray[np.float32]]


class DISFlow:
    """Optical flow by dense inverse search (Kroeger et al. 2016), as OpenCV computes it, on one processor core.

    Args:
        preset: "ultrafast", "fast" or "medium".

    Raises:
        InputError: another preset.
        MissingExtraError: OpenCV is not installed.
    """

    def __init__(self, preset: str = "medium") -> None:
        try:
            import cv2
        except ImportError as error:
            raise MissingExtraError(
                "optical flow needs OpenCV, which is not installed. Install it with: pip install 'saccade[flow]'"
            ) from error
        presets = {name: f"DISOPTICAL_FLOW_PRESET_{name.upper()}" for name in ("ultrafast", "fast", "medium")}
        if preset not in presets:
            raise InputError(f"preset={preset!r}: expected one of {list(presets)}")
        self._cv2: Any = cv2
        self._search = self._cv2.DISOpticalFlow_create(getattr(cv2, presets[preset]))

    def __call__(self, current: NDArray[np.uint8], key: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Returns the flow (H, W, 2): `current` at (x, y) looks as `key` at (x, y) + flow. See `Flow`."""
        threads = self._cv2.getNumThreads()
        self._cv2.setNumThreads(1)  # OpenCV's threads and torch's would wait for one another
        try:
            pair = np.ascontiguousarray(current), np.ascontiguousarray(key)
            return np.asarray(self._search.calc(*pair, None), dtype=np.float32)
        except self._cv2.error as error:
            raise InputError(f"optical flow failed on pictures of {current.shape}: {error}") from error
        finally:
            self._cv2.setNumThreads(threads)


def deep_feature_flow(
    features: Callable[[Tensor], Any],
    head: Callable[[Any], Any],
    clip: Tensor,
    *,
    every: int,
    flow: Flow | None = None,
) -> ClipRun:
    """Returns what the head makes of key frames' features, moved to each frame along the optical flow.

    On frames 0, k, 2k, ... features are computed. On the others the last ones are sampled bilinearly where the flow
    from the frame to its key frame points, each map at its own resolution.

    Args:
        features: takes pictures (B, C, H, W), returns maps (B, C', h, w), any structure of them.
        head: takes what `features` returns, returns tensors (B, ...).
        clip: (B, T, C, H, W), float.
        every: k; 1 computes features on every frame.
        flow: the optical flow; None: `DISFlow()`.

    Returns:
        Outputs (B, T, ...); the macs of features, of sampling (4 for each value and 1 for each value of flow brought to
        the map's size) and of the head; the flow's milliseconds per frame of one clip, which are not in the macs.

    Raises:
        InputError: the clip is no clip, `every` no whole number from 1, or a feature is no map (B, C', h, w).
        MissingExtraError: OpenCV is not installed and no other flow was given.
    """
    check_clip(clip, every)
    flow = DISFlow() if flow is None and every > 1 else flow
    grey = to_grey(clip)
    macs, frames, seconds = [], [], 0.0
    for t in range(clip.shape[1]):
        with MacCounter() as counted:
            if t % every == 0:
                here = key = features(clip[:, t])
            else:
                assert flow is not None
                began = perf_counter()
                moved = [flow(grey[b, t], grey[b, t - t % every]) for b in range(len(clip))]
                seconds += perf_counter() - began
                field = torch.from_numpy(np.stack(moved)).permute(0, 3, 1, 2).to(clip.device)
                here = _warped(key, field)
                counted.macs += sum(
                    4 * value.numel() + field.numel() for value in pytree.tree_leaves(key) if isinstance(value, Tensor)
                )
            frames.append(head(here))
        macs.append(counted.macs // len(clip))
    flow_ms = 1000 * seconds / (clip.shape[0] * clip.shape[1])
    return ClipRun(stack_frames(frames), torch.tensor(macs), flow_ms)


def _warped(key: Any, field: Tensor) -> Any:
    for value in pytree.tree_leaves(key):
        if isinstance(value, Tensor) and (value.ndim != 4 or len(value) != len(field)):
            raise InputError(
                f"a feature is {tuple(value.shape)}; Deep Feature Flow moves maps (N, C, h, w) with N = {len(field)}. "
                "Split the network where its features still are maps"
            )
    return pytree.tree_map_only(Tensor, lambda value: warp(value, field), key)


def to_grey(clip: Tensor) -> NDArray[np.uint8]:
    """Returns clips (B, T, C, H, W) as grey pictures (B, T, H, W) uint8, each clip from its darkest to its lightest."""
    grey = clip.detach().float().mean(2)
    low, high = grey.amin((1, 2, 3), keepdim=True), grey.amax((1, 2, 3), keepdim=True)
    scaled = 255 * (grey - low) / (high - low).clamp(min=1e-12)
    return scaled.round().to(torch.uint8).cpu().numpy()
