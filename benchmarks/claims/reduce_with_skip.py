"""One network that carries both Skip-Convolutions and VA-RED2, beside the same network with either alone."""

from __future__ import annotations

from benchmarks.claims.claim import Claim
from benchmarks.claims.curves import by_setting, mean, spread
from benchmarks.claims.judging import Rows, beats, dense_accuracy, seeds_of, verdict
from benchmarks.claims.reduce_curves import OF_CHANNELS, POSITIONS, TOGETHER, curves

NEEDS = ("puppets/dense/", "puppets/tuned/", "puppets/magnitude-refresh-", "puppets/reduce-", "puppets/skip+reduce-")


def sv(rows: Rows) -> Claim:
    """Both methods in one network beat either at equal accuracy."""
    found = curves(rows, "puppets")
    texts = [f"dense {spread(dense_accuracy(found).values(), 2)}"]
    for method in (POSITIONS, OF_CHANNELS, TOGETHER):
        for setting, points in by_setting(found, method).items():
            ratio = mean(item.ratio for item in points)
            texts.append(f"{method}, {setting}: {spread([item.accuracy for item in points], 2)} at macs / {ratio:.2f}")
    ratios = [mean(item.ratio for item in points) for points in by_setting(found, TOGETHER).values()]
    checks = [beats(found, TOGETHER, alone, ratio) for ratio in ratios for alone in (POSITIONS, OF_CHANNELS)]
    return Claim(
        "SV",
        "Positions and channels left out together beat either at equal accuracy",
        "HRNet-tiny for the poses of rendered people (24 M macs a frame), PCK@0.1 and macs per frame over test videos; "
        "gates on |r| at all convolutions, VA-RED2's at all (channels, two options, frame by frame), or VA-RED2's at "
        "the 3x3 convolutions of 32 and more input channels and gates on |r| at all others; all go on from the dense "
        "network for 400 steps; dense is the better of the network itself and the same tuned as long",
        "no paper has it; our own goal",
        "; ".join(texts),
        verdict(checks),
        "Rendered videos, a small network. The rule for yes: at the macs of each setting of both, neither alone is "
        "more accurate (what does not reach those macs loses). A layer that carries "
        "channels costs in every frame, where one that passes over positions costs little between references.",
        seeds_of(rows, "puppets"),
    )
