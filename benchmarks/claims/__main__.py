"""Runs the claims of one paper and writes what came out.

    python -m benchmarks.claims skip             # trains and measures what is missing, writes docs/claims-skip.md
    python -m benchmarks.claims skip --only puppets/ --minutes 30
    python -m benchmarks.claims skip --report    # writes the page from what is measured already

Trainings go to out/claims and go on where they were stopped; what was measured is kept in
benchmarks/results/claims-skip-runs.json, and runs found there are not repeated. Times are not measured here: see
benchmarks.gated.
"""

from __future__ import annotations

import argparse
import os

from benchmarks.claims.page import write_page
from benchmarks.claims.runs import Results, carry_out
from benchmarks.claims.skip_runs import runs
from benchmarks.environment import ROOT

RESULTS = ROOT / "benchmarks" / "results" / "claims-skip-runs.json"


def main() -> None:
    """Carries out the runs, then writes the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paper", choices=["skip"])
    parser.add_argument("--only", default="", help="runs whose name holds this, and what they start from")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--minutes", type=float, default=None, help="begin no training after this time")
    parser.add_argument("--report", action="store_true", help="train nothing")
    arguments = parser.parse_args()
    results = Results(RESULTS)
    if not arguments.report:
        every = runs()
        wanted = {name for name in every if arguments.only in name}
        wanted |= {every[name].start for name in wanted} - {""}
        chosen = [run for run in every.values() if run.name in wanted]
        failed = carry_out(
            chosen,
            results,
            module="benchmarks.claims.skip_runs",
            workers=arguments.workers,
            minutes=arguments.minutes,
        )
        if failed:
            print(f"{len(failed)} runs failed: {', '.join(failed)}")
    for claim in write_page(results.rows):
        print(f"{claim.id}: {claim.reproduced}. {claim.ours}")


if __name__ == "__main__":
    main()
