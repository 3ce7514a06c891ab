"""Macs of the networks of the Skip-Convolutions and VA-RED2 papers, ours beside the papers'.

    python -m benchmarks.paper_macs        # writes benchmarks/results/paper_macs.json and prints its tables

Convolutions, linear layers and products of matrices, one per multiply-add, by layer as the ledger of a clip counts them
or, of networks that take a whole clip, by operator. Weights and pictures are on torch's meta device: nothing is
computed, and the biggest network takes seconds.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from benchmarks.environment import ROOT, environment
from saccade.graph.mac_counter import MacCounter
from saccade.skip import ClipModel
from saccade.zoo.corrnet import corrnet
from saccade.zoo.efficientdet import PAPER, efficientdet
from saccade.zoo.hrnet_pose import hrnet_pose
from saccade.zoo.i3d import TIME_STRIDES, i3d
from saccade.zoo.pspnet import pspnet
from saccade.zoo.r2plus1d import r2plus1d
from saccade.zoo.torchvision_repair import import_extra
from saccade.zoo.tpn import tpn
from saccade.zoo.tsn import tsn
from saccade.zoo.x3d import x3d
from saccade.zoo.yowo import yowo

DETECTION = (
    "the paper gives neither the number of classes nor which layers it counts. One class is the least there is, and "
    "ours is above the paper's by 2.2 % for D2 and 1.7 % for D3. Without the stem and the two prediction layers (which "
    "makes the number of classes irrelevant) the difference is below 0.1 % for both; that this is what was counted is "
    "a guess. With COCO's 90 classes D0 to D3 have the 2.5, 6.1, 11 and 25 G of EfficientDet's own paper"
)
EDGES = ("conv_stem", ".predict.")
MINI_KINETICS = 200  # classes of the dataset that VA-RED2's tables are for
TORCHVISION = (
    "at 112x112 it would be 27 % below the paper, at the 128x128 it names it is 4 % below. Torchvision's blocks reuse "
    "the middle channels of their first convolution for the second; with those of Tran et al.'s formula it is 2 %"
)
STRIDES = (
    "the paper does not say where I3D strides over time. Of the ways to stride or not to in the stem, 3c and 4e, "
    "stem and 4e is nearest; all three, as Xie et al., gives 43.1 G, stem alone 57.8 G"
)
PYRAMID = (
    "6 % below: 4 % are R(2+1)D's, and ours adds 0.3 G to 8 frames, the paper's 0.8 G; it does not give the pyramid's "
    "channels, which here follow those of Yang et al.'s configurations for ResNet-50"
)
CORRELATION = (
    "4 % below, as R(2+1)D is: the blocks add 5.5 G, the paper's 5.6 G. Weighting and summing the correlations is "
    "neither a convolution nor a product of matrices and is not counted: 0.07 G"
)
FUSION = (
    "the paper's figures are those of one I3D or X3D-M at 224x224, scaled from its own at 256x256 (42.9 and 4.75 G), "
    "plus 1.0 G for the fusion; ours adds 1.1 G, of which the products of its attention are 0.1 G"
)
ENCODER = "equal to the digits given, with a stem of three convolutions (64, 64, 128 channels) and a stride of 8"
PARAMETERS = "VA-RED2's Table 4 has no dense cost of resnet50; the 23.9 M parameters it gives are this network's"


@dataclass(frozen=True)
class Case:
    """One network, its input, what the paper says in G macs and where, why we may differ, and layers left uncounted.

    `whole` says that its input is one clip (1, 3, T, H, W); else every frame is a picture of its own at the same cost.
    """

    name: str
    model: nn.Module
    size: tuple[int, int]
    frames: int = 1
    paper: float | None = None
    source: str = ""
    why: str = ""
    uncounted: tuple[str, ...] = ()
    whole: bool = False


def cases() -> list[Case]:
    """Returns the papers' networks, each paper's followed by the small ones made for two cores."""
    return [*skip_cases(), *reduce_cases()]


def skip_cases() -> list[Case]:
    """Returns the networks of Skip-Convolutions."""
    published = {"d2": (9.52, "section 4.1, Fig. 7"), "d3": (22.06, "section 4.1, Fig. 4")}
    found = [Case("hrnet-pose:w32", hrnet_pose("w32"), (256, 256), paper=10.19, source="Table 1", why="equal")]
    for name in PAPER:
        for classes in (1, 4, 90):
            model = efficientdet(name, classes=classes)
            paper, source = published.get(name, (None, "only in Fig. 4, without figures"))
            label = f"efficientdet:{name}, {classes} class{'es' if classes > 1 else ''}"
            found.append(Case(label, model, model.size, paper=paper, source=source, why=DETECTION if paper else ""))
        if paper:
            label = f"efficientdet:{name}, no stem, no prediction"
            found.append(Case(label, model, model.size, paper=paper, source=source, uncounted=EDGES))
    resnet = tsn("resnet101")
    for frames, paper in ((25, 194.98), (6, 46.80)):
        found.append(Case("tsn:resnet101", resnet, (224, 224), frames, paper, "Table 5", "equal"))
    small = efficientdet("tiny")
    found += [Case(f"hrnet-pose:{width}", hrnet_pose(width), (128, 128)) for width in ("tiny", "small")]
    return [*found, Case("efficientdet:tiny", small, small.size), Case("tsn:tiny", tsn("tiny"), (112, 112))]


def reduce_cases() -> list[Case]:
    """Returns the networks of VA-RED2."""
    found = []
    for label, model, why in (
        ("r2plus1d:18", r2plus1d("18", classes=MINI_KINETICS), TORCHVISION),
        ("r2plus1d:18, own middle channels", with_own_middle_channels(), ""),
    ):
        for frames, paper in ((8, 27.7), (16, 55.2), (32, 110.5)):
            found.append(Case(label, model, (128, 128), frames, paper, "Table 1", why, whole=True))
    for label, strides, why in (
        ("i3d:inceptionv2", TIME_STRIDES, STRIDES),
        ("i3d:inceptionv2, strides of Xie et al.", (2, 2, 2), ""),
    ):
        model = i3d("inceptionv2", classes=MINI_KINETICS, time_strides=strides)
        found.append(Case(label, model, (256, 256), 16, 56.0, "Table 2", why, whole=True))
    x3d_m, pyramid = x3d("m", classes=MINI_KINETICS), tpn("18", classes=MINI_KINETICS)
    found.append(Case("x3d:m", x3d_m, (256, 256), 16, 6.20, "Table 2", "equal to the digits given", whole=True))
    for frames, paper in ((8, 28.5), (16, 56.8)):
        found.append(Case("tpn:18", pyramid, (128, 128), frames, paper, "Table 3", PYRAMID, whole=True))
    correlating = corrnet("18", classes=MINI_KINETICS)
    found.append(Case("corrnet:18", correlating, (128, 128), 16, 60.8, "Table 4", CORRELATION, whole=True))
    for variant, paper in (("i3d", 43.9), ("x3d", 5.75)):
        found.append(Case(f"yowo:{variant}", yowo(variant), (224, 224), 16, paper, "Table 8", FUSION, whole=True))
    segmenting = pspnet("resnet18")
    found += [
        Case("pspnet:resnet18, encoder", segmenting.encoder, (224, 224), 1, 10.6, "Table 11", ENCODER),
        Case("pspnet:resnet18", segmenting, (224, 224)),
        Case("tsn:resnet50", tsn("resnet50", classes=MINI_KINETICS), (224, 224), 16, why=PARAMETERS),
    ]
    tiny: list[tuple[str, nn.Module, int]] = [
        ("r2plus1d:tiny", r2plus1d("tiny"), 56),
        ("i3d:tiny", i3d("tiny"), 64),
        ("x3d:tiny", x3d("tiny"), 64),
        ("tpn:tiny", tpn("tiny"), 56),
        ("corrnet:tiny", corrnet("tiny"), 56),
        ("yowo:i3d-tiny", yowo("i3d-tiny"), 64),
        ("yowo:x3d-tiny", yowo("x3d-tiny"), 64),
    ]
    found += [Case(label, model, (size, size), 16, whole=True) for label, model, size in tiny]
    return [*found, Case("pspnet:tiny", pspnet("tiny"), (64, 64))]


def with_own_middle_channels() -> nn.Module:
    """Returns R(2+1)D-18 whose every convolution has the middle channels of Tran et al.'s formula."""
    blocks = import_extra("torchvision.models.video.resnet", extra="zoo")
    model = r2plus1d("18", classes=MINI_KINETICS)
    for block in model.modules():
        if isinstance(block, blocks.BasicBlock):
            channels = block.conv2[1].num_features
            middle = 27 * channels * channels // (9 * channels + 3 * channels)
            block.conv2[0] = blocks.Conv2Plus1D(channels, channels, middle)
    return model.eval()


def group(name: str) -> str:
    """Returns the part of the network a layer belongs to."""
    parts = [part for part in name.split(".") if part not in ("body", "net")]
    if parts[0] == "backbone" and len(parts) > 1:
        return "backbone" if parts[1] == "blocks" else f"backbone.{parts[1]}"
    return parts[0].rstrip("0123456789") if parts[0].startswith(("conv", "transition")) else parts[0]


def row(case: Case) -> dict[str, Any]:
    """Returns one network's figures."""
    groups = clip_groups(case) if case.whole else frame_groups(case)
    macs = groups.total()
    return {
        "network": case.name,
        "input": [case.frames, 3, *case.size],
        "macs": macs,
        "paper_macs": None if case.paper is None else case.paper * 1e9,
        "paper_source": case.source,
        "ratio": None if case.paper is None else macs / (case.paper * 1e9),
        "why": case.why,
        "groups": dict(groups),
    }


def frame_groups(case: Case) -> Counter[str]:
    """Returns the macs of `frames` pictures by part of the network, layer by layer."""
    _, firing = ClipModel(case.model.to("meta"))(torch.zeros(1, 1, 3, *case.size, device="meta"))
    groups: Counter[str] = Counter()
    for call in firing.calls:
        if not any(part in call.name for part in case.uncounted):
            groups[group(call.name)] += call.macs * case.frames
    return groups


def clip_groups(case: Case) -> Counter[str]:
    """Returns the macs of one clip by part of the network: of the body's parts, and of what comes behind it."""
    groups: Counter[str] = Counter()
    model = case.model.to("meta")
    parts: list[tuple[str, nn.Module]] = []
    for name, child in model.named_children():
        if name == "body":
            parts += [(f"body.{inner}", part) for inner, part in child.named_children()]
        elif isinstance(child, nn.ModuleList):  # whose members are called, not itself
            parts += [(name, part) for part in child]
        else:
            parts.append((name, child))
    with MacCounter() as counted:
        for name, part in parts:
            part.register_forward_pre_hook(lambda *_, name=name: groups.subtract({name: counted.macs}))
            part.register_forward_hook(lambda *_, name=name: groups.update({name: counted.macs}))
        model(torch.zeros(1, 3, case.frames, *case.size, device="meta"))
    assert groups.total() == counted.macs, f"{case.name}: macs outside its parts"
    return +groups  # without the parts that have none


def table(rows: list[dict[str, Any]]) -> str:
    """Returns the rows as Markdown: ours beside the paper's, then where ours are."""
    lines = ["| network | input | G macs | paper | ours / paper |", "|---|---|---|---|---|"]
    for each in rows:
        frames, _, height, width = each["input"]
        size = f"{height}x{width}" + (f", {frames} frames" if frames > 1 else "")
        paper = "" if each["paper_macs"] is None else f"{each['paper_macs'] / 1e9:.2f} ({each['paper_source']})"
        ratio = "" if each["ratio"] is None else f"{each['ratio']:.4f}"
        lines.append(f"| {each['network']} | {size} | {each['macs'] / 1e9:.3f} | {paper} | {ratio} |")
    lines += ["", "| network | G macs by part |", "|---|---|"]
    for each in rows:
        parts = ", ".join(f"{name} {count / 1e9:.3f}" for name, count in each["groups"].items())
        lines.append(f"| {each['network']} | {parts} |")
    notes = dict.fromkeys(f"{each['network'].partition(':')[0]}: {each['why']}." for each in rows if each["why"])
    return "\n".join([*lines, "", *notes])


def main() -> None:
    """Runs, writes the JSON and prints the tables."""
    with torch.no_grad():
        rows = [row(case) for case in cases()]
    path = ROOT / "benchmarks" / "results" / "paper_macs.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"environment": environment(), "rows": rows}, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
