"""What the verdicts on claims are made of: which methods are compared, at which accuracy and cost, by which rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.claims.claim import Claim
from benchmarks.claims.curves import UNITS, Curves, by_setting, curves, mean, seeds_at, spread

Rows = Mapping[str, Any]
OURS, PAPERS = "Gumbel on |r|, refresh", "Gumbel on r, residual"
OURS_RESIDUAL = "Gumbel on |r|, residual"
NORMS = {"output-norm": "output-norm, refresh", "input-norm": "input-norm, refresh"}
STRICT = {"puppets": "pck@0.1"}  # what methods are ranked by, where the task's own measure hardly tells them apart
SLACK = 0.3  # points of accuracy within which two methods are called equal


def ranked(rows: Rows, task: str) -> Curves:
    """Returns the curves of a task by the measure methods are ranked by."""
    return curves(rows, task, accuracy=STRICT.get(task, ""))


def seeds_of(rows: Rows, task: str) -> int:
    """Returns how many dense networks were trained for a task."""
    return sum(name.startswith(f"{task}/dense/") for name in rows)


def dense_accuracy(found: Curves) -> dict[int, float]:
    """Returns by seed what methods are held against: the better of the dense network and the same one tuned as long."""
    tuned = found["dense, tuned as long"]
    return {seed: max(tuned[seed][0].accuracy, found["dense"][seed][0].accuracy) for seed in tuned}


def on_average(found: Curves, method: str, *, slack: float = 0.0, tuned: bool = True) -> float | None:
    """Returns the largest mean ratio of a setting whose mean accuracy over seeds is not below the dense network's.

    That is the better of the network and the same tuned as long, or, not `tuned`, the network every method starts from.
    """
    every = list(dense_accuracy(found).values()) if tuned else [item[0].accuracy for item in found["dense"].values()]
    if not every:
        return None
    dense = mean(every)
    best = None
    for setting in by_setting(found, method).values():
        if mean(item.accuracy for item in setting) >= dense - slack:
            best = max(best or 0.0, mean(item.ratio for item in setting))
    return best


def at_costs(found: Curves, methods: list[str], ratios: tuple[float, ...], digits: int = 1) -> str:
    """Returns what methods give at some costs, in words."""
    parts = []
    for ratio in ratios:
        here = [f"{name} {spread(seeds_at(found, name, ratio), digits)}" for name in methods if name in found]
        parts.append(f"at macs / {ratio:g}: " + "; ".join(here))
    return ". ".join(parts)


def beats(found: Curves, better: str, worse: str, ratio: float) -> bool | None:
    """Returns whether a method is at least as accurate as another at a cost, on average; None where either is missing.

    A method that does not reach the cost at all loses to one that does.
    """
    if better not in found or worse not in found:
        return None
    left, right = seeds_at(found, better, ratio), seeds_at(found, worse, ratio)
    if not right:
        return True if left else None
    return bool(left) and mean(left) >= mean(right)


def verdict(checks: list[bool | None]) -> Any:
    """Returns "yes" where all hold, "partly" where some do, "no" where none does."""
    known = [check for check in checks if check is not None]
    if not known or not any(known):
        return "no"
    return "yes" if all(known) and len(known) == len(checks) else "partly"


def share_in_time(row: dict[str, float], key: str) -> float:
    """Returns which share of the macs cut became time, of a row whose `key` is the speed-up over the ratio of macs."""
    speed_up = row[key] * row["macs_ratio"]
    return (1 - 1 / speed_up) / (1 - 1 / row["macs_ratio"])


def cost_without_loss(found: Curves, task: str, unit: str = "") -> str:
    """Returns how far each kind of gate divides the macs without loss, and with a small one."""
    dense = spread(dense_accuracy(found).values())
    parts = [f"dense {dense} {unit or UNITS[task]}"]
    for method in (OURS, OURS_RESIDUAL, PAPERS):
        exact, near = on_average(found, method), on_average(found, method, slack=1.0)
        exact_text = f"macs / {exact:.2f}" if exact else "never"
        near_text = f"/ {near:.2f}" if near else "never"
        parts.append(f"{method}: not below dense {exact_text}, within one point {near_text}")
    return "; ".join(parts)


def missing_runs(rows: Rows, starts: Sequence[str]) -> list[str]:
    """Returns those beginnings of names that no measured run has."""
    return [start for start in starts if not any(name.startswith(start) for name in rows)]


def untested(claim: Callable[[Rows], Claim], missing: Sequence[str]) -> Claim:
    """Returns a claim that has not been run, of the function that judges it; `missing` is what it waits for."""
    title = (claim.__doc__ or "").strip().rstrip(".")
    why = f"Not run yet: {', '.join(missing)}."
    return Claim(claim.__name__.upper(), title, "see the others", "see the paper", "nothing yet", "not tested", why, 0)
