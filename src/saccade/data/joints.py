"""The fifteen joints of JHMDB, which the rendered puppets share: names, mirror images and bones."""

from __future__ import annotations

JOINTS = (
    "neck",
    "belly",
    "face",
    "right shoulder",
    "left shoulder",
    "right hip",
    "left hip",
    "right elbow",
    "left elbow",
    "right knee",
    "left knee",
    "right wrist",
    "left wrist",
    "right ankle",
    "left ankle",
)
# MIRRORED[j] is the joint that j becomes when the picture is mirrored.
MIRRORED = (0, 1, 2, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13)
# Pairs of joints to draw a line between.
BONES = (
    (0, 2), (0, 1), (0, 3), (0, 4), (1, 5), (1, 6), (3, 7),
    (4, 8), (7, 11), (8, 12), (5, 9), (6, 10), (9, 13), (10, 14),
)  # fmt: skip
