"""YOWO: where in a clip's last frame somebody acts, and what is done.

Köpüklü et al., "You only watch once" (2019). VA-RED2 replaces the branch for the last frame by the 3D network. Its
costs say that one and the same network serves both: at 224x224 I3D has 41.9 and X3D-M 4.73 G macs, and the paper's 43.9
and 5.75 leave about 1 G for what comes behind, as the fusion of YOWO costs. Here the features of the last moment stand
for the last frame's branch and their mean over time for the clip's.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from saccade.errors import InputError
from saccade.evaluate.detection import Detections
from saccade.preprocess import Preprocess
from saccade.zoo.clips import check_clips, started
from saccade.zoo.i3d import I3D
from saccade.zoo.loaded import LoadedModel
from saccade.zoo.making import IMAGENET_MEAN, IMAGENET_STD, SEED, check_classes, check_variant, create, weights_origin
from saccade.zoo.street_detector import nms
from saccade.zoo.x3d import X3D

CLASSES = 21  # JHMDB's actions
PREFIX = "yowo:"
SIZES = {"i3d": (16, 224, 224), "x3d": (16, 224, 224), "i3d-tiny": (16, 64, 64), "x3d-tiny": (16, 64, 64)}
WIDTHS = {"i3d": 1024, "x3d": 1024, "i3d-tiny": 64, "x3d-tiny": 64}  # channels of the fusion
STRIDE = 32
Anchors = tuple[tuple[float, float], ...]
# (width, height) in cells of 32 pixels that YOWO's authors use for JHMDB
ANCHORS: Anchors = ((0.95878, 3.10197), (1.67204, 4.0040), (1.75482, 5.64937), (3.09299, 5.80857), (4.91803, 6.25225))


class ChannelAttention(nn.Module):
    """Adds to every channel a mixture of all, by how alike they are: x + a softmax(F F^T) F, a learned from 0."""

    def __init__(self) -> None:
        """Start with a = 0."""
        super().__init__()
        self.share = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Return `(B, C, h, w)`, as it is given."""
        places = x.flatten(2)
        alike = torch.bmm(places, places.transpose(1, 2)).softmax(2)
        return x + self.share * torch.bmm(alike, places).view_as(x)


class YOWO(nn.Module):
    """Boxes and actions in the last frame of clips `(B, 3, T, H, W)`, H and W multiples of 32.

    `forward` gives a map `(B, A (5 + classes), H/32, W/32)`. Of each of the A anchors it holds, in this order: x and y
    of the centre (their sigmoid counts cells from the cell's left and upper edge), the logarithms of width and height
    over the anchor's, the logit that somebody is there, and a logit per class. `decode` turns it into boxes. InputError
    says so when it is given something else.

    Attributes:
        body: from clips to features `(B, C, t, H/32, W/32)`.
        fuse: from the features of the last moment and their mean over time to the map.
        anchors: `(A, 2)`, widths and heights in cells. Not in the state_dict.
    """

    anchors: Tensor

    def __init__(self, body: I3D | X3D, *, width: int, classes: int, anchors: Anchors = ANCHORS):
        """Put a fusion of `width` channels on `body`."""
        super().__init__()
        self.body, self.classes = body, classes
        self.fuse = nn.Sequential(
            _unit(2 * body.channels, width, 1),
            _unit(width, width, 3),
            ChannelAttention(),
            _unit(width, width, 3),
            nn.Conv2d(width, len(anchors) * (5 + classes), 1),
        )
        self.register_buffer("anchors", torch.tensor(anchors), persistent=False)

    def forward(self, clips: Tensor) -> Tensor:
        """Return the map."""
        check_clips(clips, who="YOWO")
        if clips.shape[3] % STRIDE or clips.shape[4] % STRIDE:
            raise InputError(
                f"YOWO: got clips {tuple(clips.shape)}; expected H and W multiples of {STRIDE}; resize the frames"
            )
        features = self.body(clips)
        return self.fuse(torch.cat([features[:, :, -1], features.mean(2)], dim=1))

    def decode(self, outputs: Tensor, *, score_threshold: float = 0.3, iou_threshold: float = 0.5) -> list[Detections]:
        """Return what was found in the last frame of each of the B clips, best first, in pixels of the input.

        A score is the probability that somebody is there times that of the class, boxes are cut to the picture. Of two
        boxes of one class that overlap by more than `iou_threshold` the better stays.
        """
        batch, _, rows, columns = outputs.shape
        maps = outputs.view(batch, len(self.anchors), 5 + self.classes, rows, columns)
        x, y, wide, high, there = maps[:, :, :5].unbind(2)
        scores = there.sigmoid().unsqueeze(2) * maps[:, :, 5:].softmax(2)  # (B, A, classes, rows, columns)
        centre_x = x.sigmoid() + torch.arange(columns, device=x.device)
        centre_y = y.sigmoid() + torch.arange(rows, device=x.device)[:, None]
        half = self.anchors[:, :, None, None] / 2
        half_x, half_y = wide.exp() * half[:, 0], high.exp() * half[:, 1]
        edges = [centre_x - half_x, centre_y - half_y, centre_x + half_x, centre_y + half_y]
        limit = torch.tensor([columns, rows, columns, rows], dtype=x.dtype, device=x.device) * STRIDE
        boxes = torch.minimum((torch.stack(edges, -1) * STRIDE).clamp(min=0), limit)  # (B, A, rows, columns, 4)
        found = []
        for clip_boxes, clip_scores in zip(boxes, scores, strict=True):
            anchor, label, row, column = torch.nonzero(clip_scores >= score_threshold, as_tuple=True)
            box, score = clip_boxes[anchor, row, column], clip_scores[anchor, label, row, column]
            keep = nms(box, score, label, iou_threshold=iou_threshold)
            found.append(Detections(box[keep].float(), score[keep].float(), label[keep]))
        return found


def yowo(variant: str = "x3d-tiny", *, classes: int = CLASSES, anchors: Anchors = ANCHORS, seed: int = SEED) -> YOWO:
    """Returns YOWO in evaluation mode.

    Args:
        variant: the 3D network: "i3d" (43.0 G macs for 16 frames of 224x224), "x3d" (5.81 G); or for two cores
            "i3d-tiny", "x3d-tiny".
        classes: number of actions.
        anchors: (width, height) of boxes to start from, in cells of 32 pixels; by default those for JHMDB.
        seed: of the random weights. torch's own random state is not touched.

    Raises:
        ModelError: there is no such variant.
    """
    name = f"{PREFIX}{variant}"
    check_variant(name, variant, SIZES, prefix=PREFIX, what="YOWO on")
    check_classes(name, classes)

    def make() -> YOWO:
        network, _, size = variant.partition("-")
        body = I3D(size or "inceptionv2") if network == "i3d" else X3D(size or "m")
        return started(YOWO(body, width=WIDTHS[variant], classes=classes, anchors=anchors))

    return create(name, False, make, library="saccade", seed=seed)


def load_yowo(name: str) -> LoadedModel:
    """Returns the network called `yowo:VARIANT`, with JHMDB's 21 actions; raises ModelError as `yowo`."""
    variant = name.removeprefix(PREFIX)
    model, size = yowo(variant), SIZES[variant]
    return LoadedModel(
        name=name,
        model=model,
        example=(torch.zeros(1, 3, *size),),
        preprocess=Preprocess(size=size[1:], mean=IMAGENET_MEAN, std=IMAGENET_STD),
        decode=model.decode,
        kind="detection",
        weights=weights_origin(False),
    )


def _unit(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )
