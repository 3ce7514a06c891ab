"""HRNet with a pose head: one heatmap per joint, at a quarter of the picture's size.

Sun et al., "Deep high-resolution representation learning for human pose estimation" (CVPR 2019), the network
Skip-Convolutions are measured with on JHMDB. The stages are timm's HighResolutionNet; of its last fusion only the
branch of the highest resolution is made, and a 1x1 convolution turns it into heatmaps. What does not reach the
heatmaps is not in the module.
"""

from __future__ import annotations

import difflib
from typing import Any

import torch
from torch import Tensor, nn

from saccade.errors import InputError, ModelError
from saccade.preprocess import Preprocess
from saccade.zoo.loaded import LoadedModel
from saccade.zoo.making import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    PRETRAINED,
    SEED,
    create,
    split_pretrained,
    weights_origin,
)
from saccade.zoo.torchvision_repair import import_extra

JOINTS = 15  # JHMDB's
STRIDE = 4  # of the heatmaps
PREFIX = "hrnet-pose:"
TIMM = {"w18": "hrnet_w18", "w32": "hrnet_w32", "w48": "hrnet_w48"}
# stem and first-stage channels, channels of the highest branch, stages, residual blocks per branch and stage
OWN = {
    "tiny": {"stem": 8, "planes": 8, "channels": 16, "stages": 3, "blocks": 1},
    "small": {"stem": 8, "planes": 8, "channels": 16, "stages": 4, "blocks": 1},
}
WIDTHS = (*OWN, *TIMM)
SIZES = dict.fromkeys(OWN, (128, 128)) | dict.fromkeys(TIMM, (256, 256))  # (height, width) of the example


class HRNetPose(nn.Module):
    """Heatmap scores `(N, J, H/4, W/4)` of pictures `(N, 3, H, W)`, normalised as ImageNet's.

    H and W are multiples of `multiple` (32; 16 with three stages), or InputError says so. `body` holds the stem
    (`conv1`, `conv2`), `layer1` (the first stage), `stage2` ... and the transitions between them; `head` is the 1x1
    convolution.
    """

    def __init__(self, body: nn.Module, *, channels: int, joints: int, multiple: int) -> None:
        """Put a head on `body`, whose highest branch has `channels` channels."""
        super().__init__()
        self.body: Any = body
        self.multiple = multiple
        self.head = nn.Conv2d(channels, joints, 1)
        nn.init.normal_(self.head.weight, std=0.001)
        nn.init.constant_(self.head.bias, 0.0)  # type: ignore[arg-type]

    def forward(self, pictures: Tensor) -> Tensor:
        """Return scores; a joint is where its map is highest, and cell k covers the pixels from 4 k to 4 k + 4."""
        if pictures.ndim != 4 or pictures.shape[1] != 3 or any(size % self.multiple for size in pictures.shape[2:]):
            raise InputError(
                f"HRNetPose: got a tensor {tuple(pictures.shape)}; expected (N, 3, H, W) with H and W multiples of "
                f"{self.multiple}; resize or pad the pictures"
            )
        return self.head(self.body.forward_features(pictures)[0])


def hrnet_pose(width: str = "tiny", *, joints: int = JOINTS, pretrained: bool = False, seed: int = SEED) -> HRNetPose:
    """Returns HRNet with a head for `joints` joints, in evaluation mode.

    Args:
        width: "w32" (the paper's), "w18", "w48"; or for two cores "tiny" (three stages, one block per branch; 43 M
            macs at 128x128, 0.17 M parameters) and "small" (four stages; 67 M macs, 0.68 M parameters).
        joints: number of heatmaps.
        pretrained: with timm's ImageNet weights, downloaded; the head stays random.
        seed: of the random weights. torch's own random state is not touched.

    Raises:
        MissingExtraError: timm is not installed.
        ModelError: there is no such width, it has no trained weights, or they cannot be downloaded.
    """
    name = f"{PREFIX}{width}{PRETRAINED if pretrained else ''}"
    if width not in WIDTHS:
        near = difflib.get_close_matches(width, WIDTHS, n=1)
        hint = f" Did you mean {PREFIX}{near[0]}?" if near else ""
        raise ModelError(f"{name}: there is no HRNet of width {width!r}; expected one of {', '.join(WIDTHS)}.{hint}")
    if joints < 1:
        raise ModelError(f"{name}: got {joints} joints; expected at least 1, a heatmap each")
    if pretrained and width in OWN:
        raise ModelError(
            f"{name}: nobody has trained this width on ImageNet; leave {PRETRAINED} away, or take one of "
            f"{', '.join(TIMM)}"
        )

    def make() -> HRNetPose:
        return _with_head(_own_body(OWN[width]) if width in OWN else _timm_body(width, pretrained), joints)

    import_extra("timm", extra="zoo")
    return create(name, pretrained, make, library="timm", seed=seed)


def load_hrnet_pose(name: str) -> LoadedModel:
    """Returns the network called `hrnet-pose:WIDTH` or `hrnet-pose:WIDTH@pretrained`, with JHMDB's 15 joints.

    Raises:
        MissingExtraError: timm is not installed.
        ModelError: as `hrnet_pose`.
    """
    width, pretrained = split_pretrained(name.removeprefix(PREFIX))
    model = hrnet_pose(width, pretrained=pretrained)
    return LoadedModel(
        name=name,
        model=model,
        example=(torch.zeros(1, 3, *SIZES[width]),),
        preprocess=Preprocess(size=SIZES[width], mean=IMAGENET_MEAN, std=IMAGENET_STD),
        kind="dense-map",
        weights=weights_origin(pretrained),
    )


def _with_head(body: Any, joints: int) -> HRNetPose:
    """Returns `body` with a head, and without what only served its other outputs."""
    last = body.stage4 if len(body.stage4) else body.stage3
    last[-1].fuse_layers = nn.ModuleList([last[-1].fuse_layers[0]])
    for part in ("incre_modules", "downsamp_modules", "final_layer", "classifier", "global_pool", "head_drop"):
        if hasattr(body, part):
            setattr(body, part, None)
    branches = last[-1].num_branches
    return HRNetPose(body, channels=last[-1].num_in_chs[0], joints=joints, multiple=STRIDE * 2 ** (branches - 1))


def _timm_body(width: str, pretrained: bool) -> nn.Module:
    return import_extra("timm", extra="zoo").create_model(TIMM[width], pretrained=pretrained)


def _own_body(shape: dict[str, int]) -> nn.Module:
    """Returns timm's network of this shape; one exchange module per stage."""
    hrnet = import_extra("timm.models.hrnet", extra="zoo")

    def stage(branches: int, block: str, channels: int) -> dict[str, Any]:
        return {
            "num_modules": 1,
            "num_branches": branches,
            "block_type": block,
            "num_blocks": (shape["blocks"],) * branches,
            "num_channels": tuple(channels * 2**branch for branch in range(branches)),
            "fuse_method": "SUM",
        }

    config = {
        "stem_width": shape["stem"],
        "stage1": stage(1, "BOTTLENECK", shape["planes"]),
        **{f"stage{branches}": stage(branches, "BASIC", shape["channels"]) for branches in (2, 3, 4)},
    }
    body = hrnet.HighResolutionNet(config, head="")
    if shape["stages"] == 3:  # timm's network always has four; its loop passes an identity's branch on
        body.transition3 = nn.ModuleList([nn.Identity()])
        body.stage4 = nn.Sequential()
    return body
