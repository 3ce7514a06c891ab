"""Ways to follow a clip, measured alike: every frame gated, key frames only, or key frames' features moved."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from recipes.methods import Ran
from saccade.rivals.flow import deep_feature_flow
from saccade.rivals.keyframes import key_frames
from saccade.skip import ClipModel

# A clip (1, T, 3, H, W) to outputs (1, T, ...), macs of each frame (T,), and macs of a frame computed whole.
Follow = Callable[[Tensor], tuple[Any, Tensor, int]]


def by_gates(model: ClipModel, *, reference_every: int | None) -> Follow:
    """Return the network run with its gates, if it has any; a reference frame each so many frames."""
    run = ClipModel(model.model, reference_every=reference_every).eval()

    def follow(clip: Tensor) -> tuple[Any, Tensor, int]:
        outputs, firing, _ = Ran.of(run(clip))
        return outputs, firing.macs[0], firing.dense_macs

    return follow


def once(follow: Follow, clips: int) -> Follow:
    """Return the same for clips that come again and again in the same order: what the first round gave."""
    known: list[tuple[Any, Tensor, int]] = []
    calls = itertools.count()

    def remembered(clip: Tensor) -> tuple[Any, Tensor, int]:
        index = next(calls)
        if index < clips:
            known.append(follow(clip))
        return known[index % clips]

    return remembered


def by_key_frames(model: ClipModel, *, every: int) -> Follow:
    """Return the network run on every so many frames, its result repeated between."""
    network = model.model.eval()

    def follow(clip: Tensor) -> tuple[Any, Tensor, int]:
        found = key_frames(network, clip, every=every)
        return found.outputs, found.macs, int(found.macs[0])

    return follow


def by_flow(model: ClipModel, *, every: int) -> Follow:
    """Return Deep Feature Flow: the features of every so many frames, moved along the optical flow between.

    The flow is computed on what the network is given; its time is not macs and not in the ledger.
    """
    network: Any = model.model.eval()
    if hasattr(network, "body"):  # a pose network
        features: Callable[[Tensor], Any] = lambda x: network.body.forward_features(x)[0]  # noqa: E731
        head: nn.Module | Callable[[Any], Any] = network.head
    else:
        features = lambda x: list(network.net.fpn(network.net.backbone(x)))  # noqa: E731
        head = lambda maps: (network.net.class_net(maps), network.net.box_net(maps))  # noqa: E731

    def follow(clip: Tensor) -> tuple[Any, Tensor, int]:
        found = deep_feature_flow(features, head, clip, every=every)
        return found.outputs, found.macs, int(found.macs[0])

    return follow
