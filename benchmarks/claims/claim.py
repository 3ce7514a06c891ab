"""One claim of a paper: what it says, how we tried it, what came out, and how a page shows it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Claim:
    """A claim and our attempt at it.

    Attributes:
        id: as in the project's list of claims, "S1".
        claim: what the paper says.
        protocol: how we tried it.
        paper: its numbers.
        ours: our numbers.
        reproduced: "yes", "partly", "no", or "not tested".
        why: the reason where not, or what to keep in mind.
        seeds: how many trainings stand behind each number that is ranked; 0 where nothing is random.
    """

    id: str
    claim: str
    protocol: str
    paper: str
    ours: str
    reproduced: Literal["yes", "partly", "no", "not tested"]
    why: str
    seeds: int


def write_json(claims: Sequence[Claim], path: Path) -> None:
    """Writes the claims as a list of objects."""
    path.write_text(json.dumps([asdict(claim) for claim in claims], indent=1) + "\n")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def summary(claims: Sequence[Claim]) -> str:
    """Returns one line per claim."""
    return table(["", "claim", "reproduced"], [[claim.id, claim.claim, claim.reproduced] for claim in claims])


def section(claim: Claim) -> str:
    """Returns a claim in full."""
    seeds = f" {claim.seeds} seeds: mean (lowest to highest)." if claim.seeds > 1 else ""
    return "\n".join(
        [
            f"### {claim.id}: {claim.claim}",
            "",
            f"- Paper: {claim.paper}.",
            f"- Protocol: {claim.protocol}.{seeds}",
            f"- Ours: {claim.ours}.",
            f"- Reproduced: **{claim.reproduced}**. {claim.why}",
        ]
    )
