"""How much of the macs that VA-RED2's options leave out becomes time: clips per second beside the dense engines.

    python -m benchmarks.reduce --json benchmarks/results/reduce.json [--networks x3d:m] [--batches 1] [--minutes 2]

Networks of the paper at its input sizes, random weights. `saccade.reduce.convert` makes their convolutions dynamic (of
R(2+1)D the spatial ones, as the paper does), and each gate's numbers are set so that it gives one policy whatever it
sees: gates and cheap operations run and are counted. The converted networks and the dense one run on the native engine
(`saccade.Engine`), clip by clip; the dense one also in torch, ONNX Runtime and OpenVINO, all clips of a batch together.
All run on the same clips in turn, figures are medians.

`macs_ratio` is dense macs over executed ones, gates and cheap operations included, as the network's convolutions and
linear layers count. `realised` is the speed-up over that against OpenVINO, `realised_self` against the native
engine's own dense network; printed is the share of the macs left out that is time left out, 1 - 1 / speed-up over
1 - 1 / `macs_ratio`. `error` is, for the dense networks, the distance to torch's output; for the converted ones
to their own eager definition (`ReducedModel`), relative.
"""

from __future__ import annotations

import os

# Before torch is imported: idle threads must not spin; see benchmarks/rivals.py.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("KMP_BLOCKTIME", "0")

import argparse
import copy
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import saccade
from benchmarks.claims.judging import share_in_time
from benchmarks.environment import ROOT, environment
from benchmarks.networks import difference
from benchmarks.rivals import OnnxRuntime, OpenVino, Rival, onnx_file
from saccade.graph.mac_counter import count_macs
from saccade.reduce import Policy, Reduce, ReducedModel, convert, spatial_only
from saccade.zoo import load_model

RESULT = ROOT / "benchmarks" / "results" / "reduce.json"
# Clips (frames, side) of the paper's tables 1 and 2, and which convolutions become dynamic.
NETWORKS: dict[str, tuple[int, int, Callable[[str, nn.Module], bool] | None]] = {
    "r2plus1d:18": (16, 128, spatial_only),
    "i3d:inceptionv2": (16, 256, None),
    "x3d:m": (16, 256, None),
}
POLICIES = {"all": Policy(), "half channels": Policy(0, 1), "half time": Policy(1, 0), "half of both": Policy(1, 1)}
GOAL = 0.9
SAVES = 1.05  # macs_ratio from which on there is a cut to speak of
AGREES = 1e-3


class TorchClips(Rival):
    """torch's eager mode on clips, weights and clips channels last; float32."""

    def __init__(self, model: nn.Module, *, threads: int = 1) -> None:
        self.name, self.threads = "torch float32", threads
        torch.set_num_threads(threads)
        self._module = copy.deepcopy(model).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def __call__(self, x: Tensor) -> list[Tensor]:
        """See `Rival`."""
        with torch.inference_mode():
            return pytree.tree_leaves(self._module(x.to(memory_format=torch.channels_last_3d)))


def settle(network: nn.Module, policy: Policy) -> None:
    """Sets the numbers of every gate so that it gives one policy whatever it sees."""
    for layer in network.modules():
        if not hasattr(layer, "cheap"):
            continue
        space: Any = layer.space
        wanted = []
        for option, options in ((policy.time, space.time), (policy.channels, space.channels)):
            if options > 1:
                wanted += [1.0 if k == min(option, options - 1) else -1.0 for k in range(options)]
        with torch.no_grad():
            layer.gate.outer.weight.zero_()  # type: ignore[union-attr, operator]
            layer.gate.outer.bias.copy_(torch.tensor(wanted))  # type: ignore[union-attr, operator]


def batched(engine: saccade.Engine) -> Callable[[Tensor], list[Tensor]]:
    """Returns the engine called as the rivals are."""
    return lambda clips: pytree.tree_leaves(engine(clips))


def study(name: str, batch: int, *, minutes: float, threads: int) -> list[dict[str, Any]]:
    """Returns a row per policy of a network, and one of the dense engines."""
    frames, side, where = NETWORKS[name]
    model: Any = load_model(name).model
    clips = torch.randn(batch, 3, frames, side, side, generator=torch.Generator().manual_seed(1))
    dense_macs = count_macs(model, clips[:1])
    engines: dict[str, Callable[[Tensor], list[Tensor]]] = {}
    ratios, errors = {"dense": 1.0}, {}
    with torch.inference_mode():
        wanted = pytree.tree_leaves(model(clips[:1]))
    engines["dense"] = batched(saccade.Engine(model, clips[:1], threads=threads))
    for label, policy in POLICIES.items():
        network = copy.deepcopy(model)
        convert(network, Reduce(), where, example=clips[:1])
        settle(network, policy)
        with torch.no_grad():
            eager, policies = ReducedModel(network)(clips[:1])
        ratios[label] = dense_macs / float(policies.macs[0])
        engines[label] = batched(saccade.Engine(network, clips[:1], threads=threads))
        errors[label] = difference(engines[label](clips[:1]), pytree.tree_leaves(eager))
    path = onnx_file(f"{name}-{batch}x{frames}x{side}", model, clips)
    rivals = [OpenVino(path, threads=threads), OnnxRuntime(path, threads=threads), TorchClips(model, threads=threads)]
    engines |= {rival.name: rival for rival in rivals}
    for label in ("dense", *(rival.name for rival in rivals)):
        given = engines[label](clips[:1] if label == "dense" else clips)
        errors[label] = difference([part[:1] for part in given], wanted)
    ms = run_in_turn(engines, clips, seconds=60 * minutes)
    openvino = rivals[0].name
    rows = []
    for label, times in ms.items():
        row: dict[str, Any] = {"network": name, "clip": [frames, side, side], "batch": batch, "threads": threads}
        row |= {"engine": label, "ms": statistics.median(times), "repetitions": len(times), "error": errors[label]}
        row["clips_per_second"] = 1e3 * batch / row["ms"]
        if label in ratios:
            row["macs"] = dense_macs / ratios[label]
            row["macs_ratio"] = ratios[label]
            for reference, key in ((openvino, "realised"), ("dense", "realised_self")):
                row[key] = statistics.median(ms[reference]) / row["ms"] / ratios[label]
        rows.append(row)
    return rows


def run_in_turn(
    engines: dict[str, Callable[[Tensor], list[Tensor]]], clips: Tensor, *, seconds: float, minimum: int = 3
) -> dict[str, list[float]]:
    """Returns the milliseconds of each call, every engine on the same clips in turn, the order moving on by one."""
    ms: dict[str, list[float]] = {name: [] for name in engines}
    names, spent, count = list(engines), 0.0, 0
    while count < minimum + 1 or spent < seconds:
        shift = count % len(names)
        for name in names[shift:] + names[:shift]:
            began = time.perf_counter()
            engines[name](clips)
            took = time.perf_counter() - began
            if count:  # the first round warms up
                ms[name].append(1e3 * took)
                spent += took
        count += 1
    return ms


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=RESULT)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--minutes", type=float, default=2.0, help="per network and batch")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows: list[dict[str, Any]] = []
    began = time.monotonic()
    for name in arguments.networks:
        for batch in arguments.batches:
            rows += study(name, batch, minutes=arguments.minutes, threads=arguments.threads)
            for row in rows[-len(POLICIES) - 4 :]:
                print(summary(row), flush=True)
            minutes = round((time.monotonic() - began) / 60, 1)
            result = {"environment": environment(), "minutes": minutes, "goal": GOAL, "rows": rows}
            arguments.json.parent.mkdir(parents=True, exist_ok=True)
            arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    apart = [row for row in rows if not row["error"] < AGREES]
    for row in apart:
        print(f"{row['network']}, {row['engine']}: outputs differ by {row['error']:.2g}", file=sys.stderr)
    sys.exit(1 if apart else 0)


def summary(row: dict[str, Any]) -> str:
    """Returns a row as a line of text."""
    text = (
        f"{row['network']:16s} x{row['batch']} {row['engine']:20s} {row['ms']:8.1f} ms {row['clips_per_second']:6.2f}/s"
    )
    if "macs_ratio" in row:
        text += f"  macs / {row['macs_ratio']:.2f}"
    if row.get("macs_ratio", 1) > SAVES:
        own, other = share_in_time(row, "realised_self"), share_in_time(row, "realised")
        text += f", of the cut {own:.2f} in time ({other:.2f} against OpenVINO)"
    return f"{text}  error {row['error']:.1g}"


if __name__ == "__main__":
    main()
