"""What was learnt from footage about a plan's thresholds: the gates, and how they were found and checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from saccade.errors import FileFormatError, StateError
from saccade.graph.plan import Plan
from saccade.graph.tensor_file import read_tensors, write_tensors
from saccade.stream.gate import Gate
from saccade.stream.record import check_record

FORMAT, VERSION = "saccade-calibration", 1


@dataclass(frozen=True)
class Holdout:
    """How near a stream stayed to the dense network on frames that were not calibrated on.

    Attributes:
        frames: frames checked; the first of every clip, which is computed whole, is not among them.
        mean: mean of the measure over these frames; 0 is equal to the dense network.
        worst: largest of the measure over these frames.
        worst_frame: which frame that was, as "clip.mp4:120".
        within_tolerance: share of these frames, 0..1, on which the measure was at most the tolerance.
    """

    frames: int
    mean: float
    worst: float
    worst_frame: str
    within_tolerance: float


@dataclass(frozen=True, eq=False)
class Calibration:
    """Gates for the values of one plan, and what is known of them.

    Attributes:
        gates: by value name; values without one are exact.
        plan: digest of the plan they belong to.
        model: the plan's name.
        measure: what the tolerance is of, as "relative".
        tolerance: largest measure asked for.
        macs_ratio: dense over executed and gate macs on the held-out frames.
        holdout: how near the results were on held-out frames.
        record: how announcements are remembered, see `Stream`.
        method: how the gates were found, as "calibrate" or "adapt".
        clips: names of the videos.
    """

    gates: Mapping[str, Gate]
    plan: str
    model: str
    measure: str
    tolerance: float
    macs_ratio: float
    holdout: Holdout
    record: str = "reference"
    method: str = "calibrate"
    clips: tuple[str, ...] = ()

    def check(self, plan: Plan) -> None:
        """Raises StateError where the plan is not the one this was made for."""
        if plan.digest != self.plan:
            raise StateError(
                f"the calibration was made for another plan (of {self.model}); this stream runs {plan.name}. "
                "Calibrate this model at this input size, or leave the calibration out."
            )

    def scaled(self, factor: float) -> dict[str, Gate]:
        """Returns the gates with every threshold times a factor."""
        return {name: gate.scaled(factor) for name, gate in self.gates.items()}

    def save(self, path: str | Path) -> None:
        """Writes one safetensors file; raises FileFormatError where the path cannot be written."""
        facts = asdict(self) | {"gates": {name: gate.threshold for name, gate in self.gates.items()}}
        weights = {name: gate.weights.contiguous() for name, gate in self.gates.items() if gate.weights is not None}
        write_tensors(weights, path, {"format": FORMAT, "version": str(VERSION), "calibration": json.dumps(facts)})

    @classmethod
    def load(cls, path: str | Path) -> Calibration:
        """Returns the calibration in a file written by `save`.

        Raises:
            FileFormatError: the file is missing, damaged, no calibration, or of another version.
        """
        weights, header = read_tensors(path, kind=FORMAT, version=VERSION)
        try:
            facts = json.loads(header["calibration"])
            gates = {name: Gate(float(number), weights.get(name)) for name, number in facts.pop("gates").items()}
            holdout, clips = Holdout(**facts.pop("holdout")), tuple(facts.pop("clips"))
            check_record(facts["record"])
            return cls(gates=gates, holdout=holdout, clips=clips, **facts)
        except (KeyError, TypeError, ValueError) as error:
            raise FileFormatError(f"the calibration in {path} is damaged ({error!r}); calibrate again") from error
