"""How much of the macs that gates cut becomes time: networks of gated convolutions beside the best dense engine.

    python -m benchmarks.gated --json benchmarks/results/gated.json [--quick] [--networks resnet50] [--gates input]

Skip-Convolutions, Table 2: HRNet-w32 at macs / 2.51, 4.33 and 7.92 ran 1.5, 1.9 and 4.1 times faster. Here every
convolution of a network is gated (`saccade.skip.convert`), and a square of noise that covers 12 % of a still picture
moves on with every frame. Each gate's threshold (minus its bias) is one number times the size of its own scores, and
that number is searched so that the wanted share of the macs is left. Learned gates' weights are drawn: there is nothing
to train on here, the figures are about time.

Each row runs the gated stream, the same network dense on OpenVINO, and dense on the native engine (every frame computed
whole), on the same frames in turn; figures are medians. `macs_ratio` is dense macs over executed and gate macs,
`realised` the time cut over that against OpenVINO, `realised_self` against the native engine's own dense pass. The
first frames are not timed. `difference_reference`: how far all values the native and the reference executor keep are
apart after some frames, relative; single gates may decide differently where a score is 0 to the last digits.
"""

from __future__ import annotations

import os

# Before torch is imported: idle threads must not spin; see benchmarks/rivals.py.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("KMP_BLOCKTIME", "0")

import argparse
import copy
import dataclasses
import json
import math
import statistics
import sys
import time
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import saccade
from benchmarks.environment import ROOT, environment
from benchmarks.networks import SIZES, load, measure, moving_square
from benchmarks.rivals import OpenVino
from saccade.evaluate.profile import Profiler
from saccade.kernels.call import Ref
from saccade.kernels.gated import residual_norm, score_call
from saccade.skip import Gumbel, InputNorm, OutputNorm, Skip, SkipConv2d, convert
from saccade.stream.gated import input_of, is_gated
from saccade.stream.reference import run_step

RESULT = ROOT / "benchmarks" / "results" / "gated.json"
NETWORKS = ("hrnet_w32", "resnet50")
GATES = {"input": InputNorm(), "output": OutputNorm(), "gumbel": Gumbel(), "size": Gumbel(magnitude=True)}
FORMS = ("residual", "refresh")
REDUCTIONS = (2.51, 4.33, 7.92)
SHARE = 0.12  # of the picture that the square covers
SETTLED = 6  # frames until what a stream executes per frame has settled
AGREES = 0.02


def gated_plan(model: nn.Module, example: Tensor, gate: str, form: str, block: int) -> saccade.Plan:
    """Returns the plan of a network with every convolution gated."""
    model = copy.deepcopy(model)
    convert(model, Skip(gate=GATES[gate], block=block, form=form))
    generator = torch.Generator().manual_seed(0)
    for layer in model.modules():
        if isinstance(layer, SkipConv2d) and layer.gate is not None:
            weight = layer.gate.weight.data
            weight.copy_(torch.randn(weight.shape, generator=generator) / math.sqrt(weight.numel()))
            if gate == "size":
                weight.abs_()
    return saccade.make_plan(model, example, name=f"{gate} {form}")


def score_scales(plan: saccade.Plan) -> dict[str, Tensor]:
    """Returns how large each gate's scores are between two frames of the dense network, by the name of its bias.

    One threshold for all gates would switch a network with random weights on and off as a whole.
    """
    before: dict[str, Tensor] = {}
    scales: dict[str, Tensor] = {}
    for frame in islice(frames_of(plan), 2):
        values = {plan.inputs[0]: frame}

        def lookup(ref: Ref, values: dict[str, Tensor] = values) -> Tensor:
            return plan.weights[ref.name] if ref.kind == "weight" else values[ref.name]

        for step in plan.steps:
            if not step.calls:
                continue
            values |= dict(zip(step.outputs, run_step(step, lookup), strict=True))
            if before and is_gated(step):
                call, name = step.calls[0], input_of(step)
                r = values[name] - before[name]
                read = Ref("value", "r")
                source = r
                if call.arguments["norm"]:
                    one = lookup(call.arguments["gate_weight"]).shape[1] == 1
                    source = residual_norm(r) if one else r.abs()
                score = score_call(call, read).run(lambda ref: source if ref.name == "r" else lookup(ref))  # noqa: B023
                size = (score - lookup(call.arguments["gate_bias"])).abs()
                scales[call.arguments["gate_bias"].name] = size[size > 0].median()
        before = values
    return scales


def with_threshold(plan: saccade.Plan, threshold: float, scales: dict[str, Tensor]) -> saccade.Plan:
    """Returns the plan where each gate's threshold is that many times the size of its scores."""
    changed = {name: (-threshold * scale).reshape(1) for name, scale in scales.items()}
    return dataclasses.replace(plan, weights={**plan.weights, **changed})


def frames_of(plan: saccade.Plan) -> Any:
    """Returns the video a plan is measured on."""
    return moving_square(plan.values[plan.inputs[0]].shape, SHARE)


def macs_fraction(plan: saccade.Plan, *, frames: int = 4) -> float:
    """Returns the share of the macs that a stream executes, gates included, once it has settled."""
    stream = saccade.Stream(plan)
    shares = []
    for frame in islice(frames_of(plan), SETTLED + frames):
        stream(frame)
        shares.append(stream.cost.macs_fraction)
    return statistics.fmean(shares[SETTLED:])


def find_threshold(plan: saccade.Plan, wanted: float, scales: dict[str, Tensor], *, steps: int = 12) -> float:
    """Returns the threshold that leaves about `wanted` of the macs, by bisection of its logarithm.

    Networks with random weights change quickly from one regime to another: the nearest found is taken, and rows say
    what was really executed.
    """
    low, high = math.log(1e-2), math.log(10.0)
    tried: list[tuple[float, float]] = []
    for _ in range(steps):
        middle = (low + high) / 2
        found = macs_fraction(with_threshold(plan, math.exp(middle), scales))
        tried.append((abs(math.log(max(found, 1e-6) / wanted)), math.exp(middle)))
        if tried[-1][0] < 0.03:
            break
        low, high = (middle, high) if found > wanted else (low, middle)
    return min(tried)[1]


def difference_reference(plan: saccade.Plan, *, frames: int = 3) -> float:
    """Returns how far all values that native and reference executor keep are apart after some frames, relative."""
    streams = [saccade.Stream(plan, executor=executor) for executor in ("native", "reference")]
    for frame in islice(frames_of(plan), frames):
        for stream in streams:
            stream(frame)
    pairs = [tuple(stream.state.values[name].double() for stream in streams) for name in plan.kept]
    apart = sum(float((ours - theirs).square().sum()) for ours, theirs in pairs)
    return math.sqrt(apart / sum(float(theirs.square().sum()) for _, theirs in pairs))


def profile_of(plan: saccade.Plan, *, frames: int = 8) -> list[dict[str, Any]]:
    """Returns where the time of a settled stream goes, by kind of step."""
    stream, profiler = saccade.Stream(plan, profile=True), Profiler(plan)
    for index, frame in enumerate(islice(frames_of(plan), SETTLED + frames)):
        stream(frame)
        if index >= SETTLED:
            profiler.add(stream)
    return [dataclasses.asdict(kind) for kind in profiler.result()]


def run_row(
    plan: saccade.Plan, dense: saccade.Plan, rival: OpenVino, *, budget_seconds: float, checked: bool
) -> dict[str, Any]:
    """Returns what one plan with its threshold set gave."""
    stream, whole = saccade.Stream(plan), saccade.Stream(dense, reference_every=1)
    engines = {
        "gated": lambda x: pytree.tree_leaves(stream(x)),
        "dense": lambda x: pytree.tree_leaves(whole(x)),
        rival.name: rival,
    }
    found = measure(
        engines,
        frames_of(plan),
        reference=rival.name,
        budget_seconds=budget_seconds,
        warm_up=SETTLED,
        note=lambda: {
            "share": stream.cost.macs_fraction,
            "gate": stream.cost.gate_macs / stream.plan.dense_macs,
        },
    )
    ms = {name: statistics.median(times) for name, times in found.ms.items()}
    shares = [noted["share"] for noted in found.noted]

    def realised(name: str) -> float:
        """Frames differ in what they cost: each is compared with itself."""
        rows = zip(found.ms[name], found.ms["gated"], shares, strict=True)
        return statistics.median(dense_ms / ms * share for dense_ms, ms, share in rows)

    return {
        "macs_ratio": 1 / statistics.fmean(shares),
        "gate_macs_share": statistics.fmean(noted["gate"] for noted in found.noted),
        "ms": ms["gated"],
        "dense_ms": ms["dense"],
        "openvino_ms": ms[rival.name],
        "speed_up": ms[rival.name] / ms["gated"],
        "realised": realised(rival.name),
        "realised_self": realised("dense"),
        "difference_openvino": found.differences["gated"],
        "difference_reference": difference_reference(plan) if checked else None,
        "repetitions": len(found.ms["gated"]),
        "state_bytes": stream.state.nbytes,
        "profile": profile_of(plan),
    }


def run(arguments: argparse.Namespace, save: Any) -> None:
    """Measures what was asked for, and hands over every row."""
    for network in arguments.networks:
        model, example, path = load(network)
        assert isinstance(model, nn.Module)
        dense = saccade.make_plan(model, example, name=network)
        rival = OpenVino(path, precision="float32", threads=1)
        for gate in arguments.gates:
            for form in arguments.forms:
                plan = gated_plan(model, example, gate, form, arguments.block)
                scales = score_scales(plan)
                for reduction in arguments.reductions:
                    threshold = find_threshold(plan, 1 / reduction, scales)
                    found = run_row(
                        with_threshold(plan, threshold, scales),
                        dense,
                        rival,
                        budget_seconds=2.0 if arguments.quick else 10.0,
                        checked=not arguments.quick,
                    )
                    base = {"network": network, "gate": gate, "form": form, "block": arguments.block, "threads": 1}
                    save({**base, "reduction": reduction, "threshold": threshold, **found})


def main() -> None:
    """Runs, prints a line per row and writes the JSON row by row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=RESULT)
    parser.add_argument("--quick", action="store_true", help="2 seconds of timing per row instead of 10, no check")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(SIZES))
    parser.add_argument("--gates", nargs="+", default=list(GATES), choices=list(GATES))
    parser.add_argument("--forms", nargs="+", default=list(FORMS), choices=FORMS)
    parser.add_argument("--reductions", nargs="+", type=float, default=list(REDUCTIONS))
    parser.add_argument("--block", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    started, rows = time.time(), []

    def save(row: dict[str, Any]) -> None:
        rows.append(row)
        result = {"environment": environment(), "minutes": round((time.time() - started) / 60, 1), "rows": rows}
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
        print(json.dumps({name: item for name, item in row.items() if name != "profile"}), flush=True)

    run(arguments, save)
    wrong = [row for row in rows if row["difference_reference"] is not None and row["difference_reference"] > AGREES]
    if wrong:
        sys.exit(f"native and reference executor differ: {json.dumps({**wrong[0], 'profile': None})}")


if __name__ == "__main__":
    main()
