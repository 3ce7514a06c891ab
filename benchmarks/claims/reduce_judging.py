"""What the verdicts on VA-RED2 are made of: what a network saves at which loss, in numbers and in words."""

from __future__ import annotations

from benchmarks.claims.curves import Curves, by_setting, mean, spread
from benchmarks.claims.judging import Rows, on_average
from benchmarks.claims.reduce_curves import OURS, TUNED, cut

LEARNING = 5.0  # points that tuning may give a dense network that has learned what it can


def by_weight(rows: Rows, network: str) -> dict[float, list[dict[str, float]]]:
    """Returns what was measured of VA-RED2 on a network, seed by seed, by lambda_e."""
    found: dict[float, list[dict[str, float]]] = {}
    for name, row in sorted(rows.items()):
        if name.startswith(f"{network}/both-"):
            found.setdefault(float(row["options"]["efficiency"]), []).append(row["measures"]["plain"])
    return found


def saves(found: Curves, share: float, method: str = OURS, *, slack: float = 0.0) -> list[bool]:
    """Returns whether some setting saves this share of the macs and loses no more than `slack` points.

    First against the dense network every method starts from, which must have finished learning, then against the better
    of it and the same tuned as long; where that was not trained, nothing holds against it.
    """
    first, then = (ratio is not None and 1 - 1 / ratio >= share for ratio in largest_ratios(found, method, slack))
    return [first and gain_of_tuning(found) <= LEARNING, then]


def largest_ratios(found: Curves, method: str, slack: float) -> list[float | None]:
    """Returns `on_average` against the dense network, and against the better of it and the same tuned as long."""
    there = ["dense" in found, "dense" in found and TUNED in found]
    return [
        on_average(found, method, slack=slack, tuned=tuned) if known else None
        for tuned, known in zip((False, True), there, strict=True)
    ]


def gain_of_tuning(found: Curves) -> float:
    """Returns by how many points the dense network is better when it learns as long as the others, mean over seeds."""
    dense, tuned = dense_and_tuned(found)
    return mean(tuned) - mean(dense) if dense and tuned else 0.0


def dense_and_tuned(found: Curves) -> list[list[float]]:
    """Returns the accuracies of the dense networks every method starts from, and of the same tuned as long, by seed."""
    return [[point.accuracy for (point,) in found.get(name, {}).values()] for name in ("dense", TUNED)]


def reached(held: list[bool]) -> str:
    """Returns in words against which dense network something holds."""
    if all(held):
        return "reached"
    return "reached against the dense network, not against the same tuned as long" if held[0] else "not reached"


def without_loss(found: Curves, method: str = OURS) -> str:
    """Returns what VA-RED2 saves without loss of accuracy and with a small one, and each of its settings."""
    dense, tuned = (spread(accuracies) for accuracies in dense_and_tuned(found))
    parts = [f"dense {dense} %, tuned as long {f'{tuned} %' if TUNED in found else 'not trained'}"]
    if gain_of_tuning(found) > LEARNING:
        parts.append("the dense network had not finished learning")
    for slack, how in ((0.0, "at no loss"), (1.0, "within one point")):
        first, then = (cut(ratio) for ratio in largest_ratios(found, method, slack))
        parts.append(f"saved {how} {first} and {then}")
    for name, points in by_setting(found, method).items():
        ratio = mean(item.ratio for item in points)
        parts.append(f"{name}: {spread([item.accuracy for item in points])} % at {cut(ratio)} saved")
    return "; ".join(parts)


def one_seed(found: Curves) -> str:
    """Returns a warning where what is compared has one seed in common."""
    return ". One seed so far" if all(len(points) == 1 for points in found.values()) else ""


def one_setting(found: Curves, kinds: dict[str, str]) -> str:
    """Returns accuracy over seeds and macs of one setting of each method."""
    parts = []
    for method, setting in kinds.items():
        points = by_setting(found, method).get(setting, [])
        if points:
            accuracy, ratio = spread([item.accuracy for item in points]), mean(item.ratio for item in points)
            parts.append(f"{method} {accuracy} % at {cut(ratio)} of the macs saved")
    return "; ".join(parts)


def overhead(rows: Rows, network: str) -> str:
    """Returns what gates and cheap operations take, in words."""
    every = by_weight(rows, network)
    shares = [100 * plain["overhead"] for plains in every.values() for plain in plains]
    return (
        f"gates and cheap operations take {min(shares):.1f} to {max(shares):.1f} % of the dense macs (goal: at most 3)"
    )
