"""When a stream's history moves along with the picture: where that leaves less to compute, and not otherwise."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor

from saccade.cost import Cost
from saccade.graph.plan import Plan
from saccade.stream.backoff import Backoff
from saccade.stream.camera.estimate import Lines, changed_share, displacement, displacement_macs
from saccade.stream.camera.shift import STAYS, Geography, Shift, find_shift, why_fixed
from saccade.stream.gate import GateSettings
from saccade.stream.state import StreamState

QUIET = 0.25  # of the picture: where less changes, the camera stands
WORTH = 0.9  # a move is made where it leaves less than this share of what there is to compute without
VAIN = 0.9  # of the dense macs: a move after which more was computed gained nothing
LONGEST_REST = 64  # frames
REMEMBERED = 4  # displacements; their masks hold a byte for every position of the network


class Camera:
    """Watches a stream's pictures for movement of the camera.

    Per frame some hundred small squares are compared with the frame before. Where many changed, the displacement is
    estimated, and the squares are compared again as they would lie then. A displacement is used if it leaves clearly
    less to compute, by macs: what changed all the same, the edges, and the steps that do not move. After a vain try,
    or a move that saved nothing, the next frames are not looked at: 1, 2, 4 ... 64 of them; a move that saves begins
    that anew.

    Args:
        plan: the stream's.

    Attributes:
        reason: why nothing can move in this plan; "" where something can.
        macs: of watching the last frame.
        shift: how far the history moved before the last frame, (down, right) in pixels; (0, 0) for not at all.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan, self.reason, self.macs, self.shift = plan, why_fixed(plan), 0, (0, 0)
        self._geography = None if self.reason else Geography(plan)
        self._moved_macs: dict[tuple[int, int], float] = {}
        self._shifts: OrderedDict[tuple[int, int], Shift] = OrderedDict()
        self._lines: tuple[tuple[int, int], Lines] | None = None  # of which generation and frame
        self._tries = Backoff(LONGEST_REST)

    def look(self, state: StreamState, now: Tensor, settings: GateSettings) -> Shift:
        """Returns how the stream's history is to move before this frame; `STAYS` for not at all.

        Args:
            state: the stream's.
            now: the frame as the plan's input, (1, C, H, W).
            settings: the stream's gates.
        """
        self.macs = 0
        shift = self._look(state, now, settings)
        self.shift = shift.by
        return shift

    def _look(self, state: StreamState, now: Tensor, settings: GateSettings) -> Shift:
        name = self.plan.inputs[0] if self.plan.inputs else ""
        if self.reason or settings.is_reference(state.frames) or name not in state.gates:
            return STAYS
        if self._tries.rest:
            self._tries.rest -= 1
            return STAYS
        before, gate = state.values[name], state.gates[name]
        standing, cost = changed_share(now, before, (0, 0), gate)
        self.macs += cost
        if standing < QUIET:
            return STAYS
        shift = self._find(state, now, before, standing)
        if shift is None:
            return STAYS
        if shift is STAYS:
            self._tries.vain()
        return shift

    def learn(self, cost: Cost) -> None:
        """Takes what the last frame cost: a move after which nearly everything was computed all the same was vain."""
        if self.shift != (0, 0):
            if cost.macs_fraction > VAIN:
                self._tries.vain()
            else:
                self._tries.paid()

    def _find(self, state: StreamState, now: Tensor, before: Tensor, standing: float) -> Shift | None:
        """Returns the shift that leaves clearly less to compute, `STAYS` where none does, None for a frame that will be
        refused."""
        lines, height, width = Lines.of(now), now.shape[2], now.shape[3]
        last = self._lines[1] if self._lines and self._lines[0] == (state.generation, state.frames) else None
        self.macs += now.numel() * (1 if last else 2) + displacement_macs(height, width)
        down, right = displacement(lines, last or Lines.of(before))
        if not lines.finite:
            return None
        self._lines = (state.generation, state.frames + 1), lines
        moved, by = standing, (0, 0)
        # What comes in at the sides disturbs the lines of a camera that moves one way only: those are asked too.
        for way in dict.fromkeys([(down, right), (0, right), (down, 0)]):
            if way == (0, 0) or moved < standing / 2:
                continue
            share, cost = changed_share(now, before, way, state.gates[self.plan.inputs[0]])
            self.macs += cost
            moved, by = min((moved, by), (share, way))
        if moved >= WORTH * standing:
            return STAYS
        if by not in self._moved_macs:
            self._moved_macs[by] = self._shift(by).moved_macs
        left = self._moved_macs[by] * moved + 1 - self._moved_macs[by]
        return self._shift(by) if left < WORTH * standing else STAYS

    def _shift(self, by: tuple[int, int]) -> Shift:
        if by not in self._shifts:
            assert self._geography is not None
            self._shifts[by] = find_shift(self._geography, by)
            if len(self._shifts) > REMEMBERED:
                self._shifts.popitem(last=False)
        self._shifts.move_to_end(by)
        return self._shifts[by]
