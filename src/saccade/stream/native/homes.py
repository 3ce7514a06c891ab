"""Which values live inside the concatenation that reads them, so that concatenating copies nothing."""

from __future__ import annotations

from dataclasses import dataclass

from saccade.graph.plan import Plan, Step


@dataclass(frozen=True)
class Home:
    """A value's place: channels from `offset` on of the rows of the value `inside`."""

    inside: str
    offset: int


def find_homes(plan: Plan) -> dict[str, Home]:
    """Returns the home of every value that lies inside a concatenation along the channels.

    A value read by several concatenations lives in the first; the others copy it. Values that only move are left where
    they come from, but for concatenations, which may lie in one another.
    """
    makers = {name: step for step in plan.steps for name in step.outputs}
    homes: dict[str, Home] = {}
    for step in plan.steps:
        offset = 0
        for name in _joined(plan, step):
            movable = makers[name].gated or makers[name].calls[0].base == "cat"
            if movable and name not in homes and len(makers[name].outputs) == 1:
                homes[name] = Home(step.outputs[0], offset)
            offset += plan.values[name].channels
    return homes


def _joined(plan: Plan, step: Step) -> tuple[str, ...]:
    """Returns the values a step joins along their channels, each once and all float32; () for another step."""
    if len(step.calls) != 1 or step.calls[0].base != "cat" or step.gated:
        return ()
    out = plan.values[step.outputs[0]]
    names = step.calls[0].values()
    dim = step.calls[0].arguments["dim"] % len(out.shape)
    specs = [plan.values[name] for name in names]
    plain = all(spec.dtype == "float32" and spec.channel_axis == dim and spec.numel for spec in specs)
    refs = sum(1 for _ in step.calls[0].refs())
    fits = out.channel_axis == dim and plain and len(set(names)) == len(names) == refs
    return names if fits and sum(spec.channels for spec in specs) == out.channels else ()
