"""The native convolution at chosen positions beside oneDNN's dense one, on the convolutions of known networks.

    python -m benchmarks.kernels --json benchmarks/results/kernels.json [--quick]

Everything runs on one thread. Dense is torch with oneDNN in the form that is fastest for the shape: contiguous,
channels last, channels last with weights packed beforehand, or oneDNN's own layout. Sparse is the engine's routine:
input rows where they lie, output rows in float32 to a buffer that stays in the cache, as when the engine runs it.
Neither has an activation. Dense and all sparse runs of a shape take turns; times are medians. Each result is compared
with that of dense in the same precision.

`realised` is how much of the saving is had: (dense_ms / sparse_ms) * (active / positions), so 1 where a quarter of the
positions takes a quarter of dense's time. `table2` follows Table 2 of Skip-Convolutions (CVPR 2021): all convolutions
of HRNet-w32, each as often as it occurs, at the paper's reductions of macs.
"""

from __future__ import annotations

import os

# Before torch is imported: idle threads must not spin; see benchmarks/rivals.py.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("KMP_BLOCKTIME", "0")

import argparse
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.environment import ROOT, environment
from benchmarks.kernel_shapes import MASKS, WHOLE, Shape, active, collect, thin
from saccade.kernels.cpu import choose_isa, native_module, why_missing

RESULT = ROOT / "benchmarks" / "results" / "kernels.json"
PAPER = {2.51: 1.5, 4.33: 1.9, 7.92: 4.1}  # reduction of macs -> speed-up of the paper's Table 2
REDUCTIONS = (1.0, *PAPER, 50.0)
DTYPES = ("float32", "bfloat16")
LIMITS = {"float32": 1e-5, "bfloat16": 1e-2}  # relative L2 error against dense; torch rounds its output to the dtype
COUNTED = 48  # active positions from which a row counts in minima: four register tiles
SMALL = 16  # maps of fewer positions are measured whole only
GOOD = 0.85
LEFT_OUT = {
    False: f"shapes like a measured one of more macs, see benchmarks.kernel_shapes.thin; none of {WHOLE}",
    True: "all but a handful",
}
BUFFER_BYTES = 1 << 20
BURST_SECONDS = 2e-4  # one reading of the clock times at least so much work
Run = Callable[[], Any]


class Sparse:
    """The native routine with one convolution's weights, and its input."""

    def __init__(self, shape: Shape, isa: str, x: Tensor, weight: Tensor, bias: Tensor) -> None:
        self.rows = x[0].movedim(0, -1).contiguous()
        self.channels = shape.channels[1]
        self.ld = (self.channels + 63) // 64 * 64
        weight, bias = weight.float().contiguous(), bias.float()
        module: Any = native_module()
        self.packed = module.PackedConvolution(
            isa,
            batch=1,
            in_size=[1, *shape.size],
            out_size=[1, *shape.out],
            kernel=[1, *shape.kernel],
            stride=[1, *shape.stride],
            pad=[0, *shape.pad],
            dilation=[1, *shape.dilation],
            in_channels=shape.channels[0],
            out_channels=shape.channels[1],
            groups=shape.groups,
            transposed=False,
            bf16=x.dtype == torch.bfloat16,
            weight=weight.data_ptr(),
            bias=bias.data_ptr(),
        )
        self.at_once = max(1, BUFFER_BYTES // (4 * self.ld))
        self.buffer = torch.empty(self.at_once, self.ld)

    def prepare(self, positions: Tensor) -> Run:
        """Returns a function that computes those positions into the buffer, part by part."""
        rows, stride, out, ld = self.rows.data_ptr(), self.rows.shape[-1], self.buffer.data_ptr(), self.ld
        parts = [(part.data_ptr(), len(part)) for part in positions.split(self.at_once)]
        run, prefix = self.packed.run, self.channels

        def compute() -> None:
            for at, count in parts:
                run(rows, stride, at, count, prefix, out, ld)

        return compute

    def result(self, positions: Tensor) -> Tensor:
        """Returns (positions, channels)."""
        found = []
        for part in positions.split(self.at_once):
            self.prepare(part)()
            found.append(self.buffer[: len(part), : self.channels].clone())
        return torch.cat(found)


def dense_forms(shape: Shape, x: Tensor, weight: Tensor, bias: Tensor) -> dict[str, Callable[[], Tensor]]:
    """Returns torch's ways of running the whole convolution, by name."""
    settings = (shape.stride, shape.pad, shape.dilation, shape.groups)
    xs, weights = x.contiguous(memory_format=torch.channels_last), weight.contiguous(memory_format=torch.channels_last)
    forms: dict[str, Callable[[], Tensor]] = {
        "contiguous": lambda: F.conv2d(x, weight, bias, *settings),
        "channels last": lambda: F.conv2d(xs, weights, bias, *settings),
    }
    if not torch.backends.mkldnn.is_available() or (
        x.dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported()
    ):
        return forms
    stride, pad, dilation, groups = settings
    reorder, run_packed = torch._C._nn.mkldnn_reorder_conv2d_weight, torch.ops.mkldnn._convolution_pointwise
    packed = reorder(weight.to_mkldnn(), pad, stride, dilation, groups, list(x.shape))
    forms["packed"] = lambda: run_packed(xs, packed, bias, pad, stride, dilation, groups, "none", [], "")
    own, own_bias = x.to_mkldnn(), bias.to_mkldnn()
    forms["oneDNN layout"] = lambda: torch.mkldnn_convolution(own, packed, own_bias, pad, stride, dilation, groups)
    return forms


def seconds_of(run: Run, times: int) -> float:
    """Returns the mean time of some calls in a row."""
    began = time.perf_counter()
    for _ in range(times):
        run()
    return (time.perf_counter() - began) / times


def fastest(forms: dict[str, Callable[[], Tensor]]) -> str:
    """Returns the name of the form that took least in the best of some tries."""
    best = dict.fromkeys(forms, float("inf"))
    for _ in range(4):
        for name, run in forms.items():
            best[name] = min(best[name], seconds_of(run, 1 if best[name] > BURST_SECONDS else 3))
    return min(best, key=best.__getitem__)


def take_turns(runs: Sequence[Run], seconds: float, *, least: int = 3) -> list[float]:
    """Returns the median time of each, in milliseconds; they run in turn, another one first each time."""
    bursts = [max(1, round(BURST_SECONDS / min(seconds_of(run, 1) for _ in range(2)))) for run in runs]
    found: list[list[float]] = [[] for _ in runs]
    began, rounds = time.perf_counter(), 0
    while rounds < least or time.perf_counter() - began < seconds:
        for index in range(len(runs)):
            which = (index + rounds) % len(runs)
            found[which].append(1e3 * seconds_of(runs[which], bursts[which]))
        rounds += 1
    return [statistics.median(times) for times in found]


def measure(layer: str, shape: Shape, dtype: str, *, isa: str, seconds: float) -> list[dict[str, Any]]:
    """Returns the rows of one shape in one precision: every reduction with every mask.

    Args:
        layer: what the rows call it.
        shape: the convolution.
        dtype: "float32" or "bfloat16".
        isa: instruction set of the native routine.
        seconds: to spend on timing.
    """
    generator = torch.Generator().manual_seed(0)
    fan_in = shape.macs // (shape.positions * shape.channels[1])
    x = torch.randn(1, shape.channels[0], *shape.size, generator=generator)
    weight = torch.randn(shape.channels[1], shape.channels[0] // shape.groups, *shape.kernel, generator=generator)
    bias = torch.randn(shape.channels[1], generator=generator)
    x, weight, bias = (each.to(getattr(torch, dtype)) for each in (x, weight / fan_in**0.5, bias))
    sparse, forms = Sparse(shape, isa, x, weight, bias), dense_forms(shape, x, weight, bias)
    form = fastest(forms)
    given = forms[form]()
    expected = (given.to_dense() if given.is_mkldnn else given).float()[0].flatten(1).T
    wanted = [("all", 1.0)]
    if shape.positions >= SMALL:
        wanted += [(mask, reduction) for reduction in REDUCTIONS[1:] for mask in MASKS]
    lists = [active(shape, 1 / reduction, mask) for mask, reduction in wanted]
    dense_ms, *sparse_ms = take_turns([forms[form], *map(sparse.prepare, lists)], seconds)
    rows = []
    for (mask, reduction), positions, ms in zip(wanted, lists, sparse_ms, strict=True):
        right = expected[positions.long()]
        rows.append(
            {
                "layer": layer,
                "kind": shape.kind,
                "dtype": dtype,
                "mask": mask,
                "reduction": reduction,
                "density": len(positions) / shape.positions,
                "positions": shape.positions,
                "active": len(positions),
                "macs": shape.macs,
                "dense_form": form,
                "dense_ms": dense_ms,
                "sparse_ms": ms,
                "realised": dense_ms / ms * len(positions) / shape.positions,
                "error": float((sparse.result(positions) - right).norm() / right.norm()),
            }
        )
    return rows


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns what the rows come to.

    `realised`: per dtype, reduction and kind ("any" is all kinds): how many rows, their median, the share of them from
    0.85 on, the share with at least 48 active positions, and the minimum over these. `bfloat16_over_float32`: per
    reduction the median speed-up of ours. `largest_error`: per dtype.
    """
    realised = []
    for dtype in DTYPES:
        for reduction in REDUCTIONS:
            here = [row for row in rows if (row["dtype"], row["reduction"]) == (dtype, reduction)]
            for kind in ("any", *dict.fromkeys(row["kind"] for row in here)):
                chosen = [row for row in here if kind in ("any", row["kind"])]
                if chosen:
                    realised.append({"dtype": dtype, "reduction": reduction, "kind": kind, **_spread(chosen)})
    ours = {(row["layer"], row["mask"], row["reduction"], row["dtype"]): row["sparse_ms"] for row in rows}
    ratios: dict[float, list[float]] = {}
    for (*which, dtype), ms in ours.items():
        if dtype == "float32" and (*which, "bfloat16") in ours:
            ratios.setdefault(which[2], []).append(ms / ours[(*which, "bfloat16")])
    errors: dict[str, float] = {}
    for row in rows:
        errors[row["dtype"]] = max(errors.get(row["dtype"], 0.0), row["error"])
    return {
        "realised": realised,
        "bfloat16_over_float32": {str(reduction): statistics.median(each) for reduction, each in ratios.items()},
        "largest_error": errors,
    }


def _spread(rows: list[dict[str, Any]]) -> dict[str, Any]:
    counted = [row["realised"] for row in rows if row["active"] >= COUNTED]
    return {
        "rows": len(rows),
        "median": statistics.median(row["realised"] for row in rows),
        f"share_from_{GOOD}": sum(row["realised"] >= GOOD for row in rows) / len(rows),
        "share_counted": len(counted) / len(rows),
        "minimum_counted": min(counted, default=None),
    }


def table2(rows: list[dict[str, Any]], occurrences: dict[str, int]) -> list[dict[str, Any]]:
    """Returns times of all convolutions of a network together, at the paper's reductions.

    Args:
        rows: of `measure`.
        occurrences: how often each layer of the rows occurs in the network; layers not named are left out.
    """
    result = []
    for dtype in DTYPES:
        for reduction, paper in PAPER.items():
            for mask in MASKS:
                key = (dtype, reduction, mask)
                chosen = [row for row in rows if (row["dtype"], row["reduction"], row["mask"]) == key]
                chosen = [row for row in chosen if row["layer"] in occurrences]
                if not chosen:
                    continue
                often = [occurrences[row["layer"]] for row in chosen]
                dense_ms, sparse_ms, macs = (
                    sum(n * row[name] for n, row in zip(often, chosen, strict=True))
                    for name in ("dense_ms", "sparse_ms", "macs")
                )
                left = sum(n * row["macs"] * row["density"] for n, row in zip(often, chosen, strict=True))
                result.append(
                    {
                        "dtype": dtype,
                        "reduction": reduction,
                        "mask": mask,
                        "shapes": len(chosen),
                        "convolutions": sum(often),
                        "macs_ratio": macs / left,
                        "dense_ms": dense_ms,
                        "sparse_ms": sparse_ms,
                        "speed_up": dense_ms / sparse_ms,
                        "paper_speed_up": paper,
                    }
                )
    return result


def handful(shapes: Iterable[Shape]) -> list[Shape]:
    """Returns a few shapes: of each kind, kernel and stride the one with most macs, and the first layer."""
    chosen: dict[Any, Shape] = {}
    for shape in sorted(shapes, key=lambda each: each.macs, reverse=True):
        chosen.setdefault((shape.kind, shape.kernel, shape.stride, shape.channels[0] < 8), shape)
    return list(chosen.values())[:8]


def print_summary(result: dict[str, Any]) -> None:
    """Prints the lines that say most."""
    for row in result["summary"]["realised"]:
        least = "-" if row["minimum_counted"] is None else f"{row['minimum_counted']:.2f}"
        print(
            f"{row['dtype']:8}  1/{row['reduction']:<5g} {row['kind']:9}  {row['rows']:5} rows  "
            f"realised {row['median']:.2f} (least {least}, from {GOOD}: {100 * row[f'share_from_{GOOD}']:.0f} %)"
        )
    for row in result["table2"]:
        times = f"{row['dense_ms']:.1f} / {row['sparse_ms']:.1f} ms"
        print(
            f"{row['dtype']:8}  {row['convolutions']} convolutions of {WHOLE}, macs / {row['macs_ratio']:.2f}, "
            f"{row['mask']:6}  {times} = {row['speed_up']:.2f} (paper {row['paper_speed_up']})"
        )
    print(f"bfloat16 over float32: {result['summary']['bfloat16_over_float32']}")


def main() -> None:
    """Runs, writes the JSON, prints the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=RESULT)
    parser.add_argument("--quick", action="store_true", help="a handful of shapes, seconds")
    parser.add_argument("--dtypes", nargs="+", default=list(DTYPES), choices=DTYPES)
    parser.add_argument("--seconds", type=float, help="to time one shape in one precision; 1.5, or 0.3 with --quick")
    arguments = parser.parse_args()
    if native_module() is None:
        sys.exit(f"there is no native engine to measure: {why_missing()}")
    torch.set_num_threads(1)
    started, isa = time.time(), choose_isa()
    seconds = arguments.seconds or (0.3 if arguments.quick else 1.5)
    found = collect((WHOLE, "efficientdet_d0")) if arguments.quick else collect()
    distinct = len({shape for counts in found.values() for shape in counts})
    owners = thin(found)
    shapes = handful(owners) if arguments.quick else list(owners)
    rows: list[dict[str, Any]] = []
    occurrences: dict[str, int] = {}
    with torch.inference_mode():
        for index, shape in enumerate(shapes):
            layer = f"{owners[shape]}: {shape}"
            if count := found.get(WHOLE, Counter())[shape]:
                occurrences[layer] = count
            for dtype in arguments.dtypes:
                rows += measure(layer, shape, dtype, isa=isa, seconds=seconds)
            print(f"{index + 1} of {len(shapes)}  {layer}", file=sys.stderr, flush=True)
    result = {
        "environment": environment(),
        "minutes": round((time.time() - started) / 60, 1),
        "shapes": {"measured": len(shapes), "distinct": distinct, "left_out": LEFT_OUT[arguments.quick]},
        "summary": summary(rows),
        "table2": table2(rows, occurrences),
        "rows": rows,
    }
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    print_summary(result)
    if wrong := [row for row in rows if not row["error"] <= LIMITS[row["dtype"]]]:
        sys.exit(f"results differ from dense in {len(wrong)} of {len(rows)} rows, the first: {json.dumps(wrong[0])}")


if __name__ == "__main__":
    main()
