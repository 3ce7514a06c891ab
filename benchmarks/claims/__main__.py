"""Runs the claims of one paper and writes what came out.

    python -m benchmarks.claims skip             # trains and measures what is missing, writes docs/claims-skip.md
    python -m benchmarks.claims reduce --list    # the runs, and how long each takes
    python -m benchmarks.claims skip --only puppets/ pose/dense --minutes 30
    python -m benchmarks.claims skip --report    # writes the page from what is measured already

Trainings go to out/claims and go on where they were stopped; what was measured is kept in
benchmarks/results/claims-PAPER-runs.json, and runs found there are not repeated. What starts from one network is
compared with that network only: if its weights are lost, it and all that started from it are made again (weights copied
to benchmarks/results/starts/TASK-NAME-SEED.safetensors are not lost). Times are not measured here: see benchmarks.gated
and benchmarks.reduce.
"""

from __future__ import annotations

import argparse
import importlib
import os

from benchmarks.claims.runs import Results, carry_out, plan
from benchmarks.environment import ROOT

PAPERS = ("skip", "reduce", "exits")


def main() -> None:
    """Carries out the runs, then writes the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paper", choices=PAPERS)
    parser.add_argument("--only", nargs="+", default=[""], help="runs whose name holds one of these, and their starts")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--accelerator", default="cpu", help="what to train on: cpu, cuda, ...; all workers share it")
    parser.add_argument("--minutes", type=float, default=None, help="begin no training after this time")
    parser.add_argument("--report", action="store_true", help="train nothing")
    parser.add_argument("--list", action="store_true", help="say what would be run, and do nothing")
    arguments = parser.parse_args()
    module = f"benchmarks.claims.{arguments.paper}_runs"
    results = Results(ROOT / "benchmarks" / "results" / f"claims-{arguments.paper}-runs.json")
    every = importlib.import_module(module).runs()
    wanted = {name for name in every if any(part in name for part in arguments.only)}
    wanted |= {every[name].start for name in wanted} - {""}
    chosen = [run for run in every.values() if run.name in wanted]
    if arguments.list:
        print(plan(chosen, results))
        return
    if not arguments.report:
        failed = carry_out(
            chosen,
            results,
            module=module,
            workers=arguments.workers,
            minutes=arguments.minutes,
            accelerator=arguments.accelerator,
        )
        if failed:
            print(f"{len(failed)} runs failed: {', '.join(failed)}")
    page = importlib.import_module(f"benchmarks.claims.{arguments.paper}_page")
    rows = {name: row for name, row in results.rows.items() if name not in every or results.comparable(every[name])}
    for claim in page.write_page(rows):
        print(f"{claim.id}: {claim.reproduced}. {claim.ours}")


if __name__ == "__main__":
    main()
