"""README's tables of times, from the results of benchmarks.networks, reduced, kernels and streams.

    python -m benchmarks.readme_table    # rewrites what is between the two marks in README.md

A result that is not there leaves its table away, a figure that is not there is "-".
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.environment import ROOT

README = ROOT / "README.md"
RESULTS = ROOT / "benchmarks" / "results"
START, END = "<!-- native-table:start -->", "<!-- native-table:end -->"
CASES = {"still": "still", "square5": "5 %", "square12": "12 %", "square25": "25 %", "all": "all new"}
RIVALS = {
    "openvino_ms": "OpenVINO",
    "openvino_default_ms": "OpenVINO default",
    "onnxruntime_ms": "ONNX Runtime",
    "torch_ms": "torch",
}


def rewrite(text: str, results: dict[str, dict[str, Any] | None]) -> str:
    """Returns README's text with new tables between the two marks.

    Args:
        text: README as it is.
        results: by benchmark ("networks", "reduced", "kernels", "streams"), its JSON data; None or absent where there
            is none.

    Raises:
        ValueError: the marks are not there once each, in this order.
    """
    if text.count(START) != 1 or text.count(END) != 1 or text.index(START) > text.index(END):
        raise ValueError(f"expected one {START} and behind it one {END}; put the two lines where the tables belong")
    before, _, rest = text.partition(START)
    behind = rest.partition(END)[2]
    return f"{before}{START}\n{tables(results)}\n{END}{behind}"


def tables(results: dict[str, dict[str, Any] | None]) -> str:
    """Returns the tables of those benchmarks that have a result, as Markdown."""
    makers = {
        "networks": networks_table,
        "reduced": reduced_table,
        "kernels": kernels_table,
        "streams": streams_table,
    }
    parts = [maker(found) for name, maker in makers.items() if (found := results.get(name)) and found.get("rows")]
    return "\n\n".join(parts)


def networks_table(result: dict[str, Any]) -> str:
    """Returns a line per network, type and threads: our milliseconds in every case, and those of the dense engines.

    A dense engine takes as long for every frame; its figure is the median over the cases.
    """
    rows = result["rows"]
    kinds = list(dict.fromkeys((row["network"], row["dtype"], row["threads"]) for row in rows))
    threads = sorted({kind[2] for kind in kinds})
    what = "Milliseconds per frame, where a square of new noise covers this share of the picture"
    lines = [f"{what}{_threads(threads)}; {_where(result)}:", ""]
    head = ["network", "", *(["threads"] if len(threads) > 1 else []), *CASES.values(), *RIVALS.values()]
    lines += _head(head)
    for network, dtype, count in kinds:
        own = [row for row in rows if (row["network"], row["dtype"], row["threads"]) == (network, dtype, count)]
        by_case = {row["case"]: row for row in own}
        cells = [network, dtype, *([str(count)] if len(threads) > 1 else [])]
        cells += [_ms(by_case.get(case, {}).get("ms")) for case in CASES]
        cells += [_ms(_median(row.get(rival) for row in own)) for rival in RIVALS]
        lines.append(_line(cells))
    return "\n".join(lines)


def reduced_table(result: dict[str, Any]) -> str:
    """Returns a line per type and reduction: how many times faster than OpenVINO a network runs whose macs were cut."""
    lines = [f"A network whose macs a tolerance cuts as in the paper's Table 2; {_where(result)}:", ""]
    lines += _head(["network", "", "macs /", "ms", "OpenVINO", "times faster", "paper"])
    for row in result["rows"]:
        cells = [row["network"], row["dtype"], _number(row["macs_ratio"], ".2f"), _ms(row["ms"])]
        cells += [_ms(row["openvino_ms"]), _number(row["speed_up"], ".2f"), _number(row["paper_speed_up"], ".1f")]
        lines.append(_line(cells))
    return "\n".join(lines)


def kernels_table(result: dict[str, Any]) -> str:
    """Returns a line per type: how much of the cut in macs single layers realise in time, at every cut.

    The cut of a row is its `reduction`, the macs asked to be cut by, or else what its `density` comes to.
    """
    found: dict[tuple[str, float], list[float]] = {}
    for row in result["rows"]:
        if row.get("realised") is not None:
            cut = row["reduction"] if "reduction" in row else round(1 / row["density"], 2)
            found.setdefault((row["dtype"], cut), []).append(row["realised"])
    cuts = sorted({cut for _, cut in found})
    what = "Share of the cut in macs that single layers realise in time, median (and minimum) over layers"
    lines = [f"{what}; {_where(result)}:", "", *_head(["", *(f"macs / {cut:g}" for cut in cuts)])]
    for dtype in dict.fromkeys(dtype for dtype, _ in found):
        values = [found.get((dtype, cut)) for cut in cuts]
        lines.append(_line([dtype, *(f"{statistics.median(v):.2f} ({min(v):.2f})" if v else "-" for v in values)]))
    return "\n".join(lines)


def streams_table(result: dict[str, Any]) -> str:
    """Returns a line per network, streams and threads: frames per second and memory."""
    lines = [f"Many streams in one process, frames per second of all together; {_where(result)}:", ""]
    lines += _head(["network", "streams", "threads", "frames / s", "OpenVINO", "states MB", "weights MB"])
    for row in result["rows"]:
        cells = [row["network"], str(row["streams"]), str(row["threads"])]
        cells += [_number(row.get(key), ".1f") for key in ("fps", "openvino_fps")]
        cells += [_number(_mega(row.get(key)), ".0f") for key in ("state_bytes", "weights_bytes")]
        lines.append(_line(cells))
    ratios = [f"{name} {_number(ratio, '.2f')}" for name, ratio in (result.get("two_streams_ratio") or {}).items()]
    if ratios:
        lines += ["", f"Two streams on two threads against one on one, frames per second: {', '.join(ratios)} times."]
    return "\n".join(lines)


def _where(result: dict[str, Any]) -> str:
    environment = result.get("environment") or {}
    parts = [environment.get("machine", "machine unknown"), environment.get("isa")]
    parts += ["reference executor (not for times)"] if result.get("executor") == "reference" else []
    return ", ".join(part for part in parts if part)


def _threads(counts: list[int]) -> str:
    return "" if len(counts) != 1 else f", {counts[0]} thread" + ("s" if counts[0] != 1 else "")


def _head(columns: list[str]) -> list[str]:
    return [_line(columns), "|---" * len(columns) + "|"]


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _ms(value: float | None) -> str:
    return _number(value, ".0f" if value is not None and value >= 100 else ".1f")


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _mega(value: float | None) -> float | None:
    return None if value is None else value / 1e6


def _median(values: Iterable[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return statistics.median(found) if found else None


def read(folder: Path = RESULTS) -> dict[str, dict[str, Any] | None]:
    """Returns the results there are in a folder, by benchmark."""
    paths = {name: folder / f"{name}.json" for name in ("networks", "reduced", "kernels", "streams")}
    return {name: json.loads(path.read_text()) if path.is_file() else None for name, path in paths.items()}


def main() -> None:
    """Rewrites README.md."""
    README.write_text(rewrite(README.read_text(), read()))


if __name__ == "__main__":
    main()
