"""Traffic of the rendered street: vehicles that follow, stop at a red light, wait and start again."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from saccade.data.street_scene import Lane
from saccade.data.street_vehicles import Vehicle, draw_vehicle

_ROOM = 14.0  # metres of road simulated beyond each end of the canvas
_BRAKING = 0.006  # metres per frame, per frame, at 25 frames per second
_GAP = 2.2  # metres kept to the vehicle in front, and to the stop line


@dataclass(frozen=True, eq=False)
class Placement:
    """One vehicle in one frame: `rear` is the canvas column of its rear end, `travelled` its way (m)."""

    instance: int
    vehicle: Vehicle
    lane: Lane
    rear: float
    travelled: float


@dataclass(eq=False)
class _Driver:
    instance: int
    vehicle: Vehicle
    front: float  # metres along the lane
    speed: float  # metres per frame
    wish: float


class LaneTraffic:
    """One lane's vehicles, front first; `step` moves them by one frame."""

    def __init__(self, lane: Lane, rng: np.random.Generator, *, width: int, fps: float, traffic: float) -> None:
        """Start with an empty lane, or with vehicles along a parking lane."""
        self.lane, self._rng, self._width, self._traffic = lane, rng, width, traffic
        self._length = width / lane.pixels_per_metre + 2 * _ROOM
        self._pace = 25.0 / fps
        self._period = rng.uniform(180, 400) / self._pace
        self._red = rng.uniform(0.4, 0.6) if rng.random() < 0.75 else 0.0
        self._offset = rng.uniform(0, self._period)
        self._stop = self._length * rng.uniform(0.45, 0.8)
        self._wish = rng.uniform(0.15, 0.30)
        self._drivers: list[_Driver] = []
        self._clock = 0
        self._due = 0.0
        if lane.parked:
            self._park()

    def _arrive(self, next_instance: list[int], front: float, speed: float) -> None:
        vehicle = draw_vehicle(self._rng, pixels_per_metre=self.lane.pixels_per_metre, direction=self.lane.direction)
        wish = self._wish * self._pace * self._rng.uniform(0.85, 1.15)
        self._drivers.append(_Driver(next_instance[0], vehicle, front, min(speed, wish), wish))
        next_instance[0] += 1

    def _park(self) -> None:
        front = self._length - self._rng.uniform(0, 12)
        while front > 6:
            if self._rng.random() < 0.5 * self._traffic:
                self._arrive([0], front, 0.0)
                front -= self._drivers[-1].vehicle.length_m
            front -= self._rng.uniform(1.0, 9.0)

    @property
    def frames_to_fill(self) -> int:
        """Frames after which the lane is as busy at its end as at its start."""
        return 0 if self.lane.parked else math.ceil(1.6 * self._length / (self._wish * self._pace))

    def number(self, next_instance: list[int]) -> None:
        """Give parked vehicles their instance numbers, in order."""
        for driver in self._drivers:
            driver.instance = next_instance[0]
            next_instance[0] += 1

    def step(self, next_instance: list[int]) -> None:
        """Move every vehicle by one frame; let one in when there is room and one is due."""
        self._clock += 1
        if self.lane.parked:
            return
        red = (self._clock + self._offset) % self._period < self._red * self._period
        ahead: _Driver | None = None
        for driver in self._drivers:
            free = 1e9 if ahead is None else ahead.front - ahead.vehicle.length_m - driver.front
            lead = 0.0 if ahead is None else ahead.speed
            to_line = self._stop - driver.front
            if red and to_line > -0.2 and to_line > 9 * driver.speed:
                free, lead = min(free, to_line + 0.5 * _GAP), 0.0
            limit = self._pace**2
            safe = math.sqrt(2 * _BRAKING * limit * max(0.0, free - _GAP) + lead**2)
            change = min(driver.wish, safe) - driver.speed
            driver.speed = max(0.0, driver.speed + float(np.clip(change, -0.02 * limit, 0.004 * limit)))
            if safe < 0.03 * self._pace:
                driver.speed = 0.0
            driver.front += min(driver.speed, max(0.0, free - 0.5))
            ahead = driver
        self._drivers = [d for d in self._drivers if d.front - d.vehicle.length_m < self._length]
        tail = min((d.front - d.vehicle.length_m for d in self._drivers), default=1e9)
        if self._clock >= self._due and tail > 3.0 + _GAP and self._traffic > 0:
            self._arrive(next_instance, 0.0, 0.0 if tail < 12 else 1.0)
            mean = 15.0 / (self._wish * self._pace) / self._traffic
            self._due = self._clock + 0.3 * mean + self._rng.exponential(0.9 * mean)

    def placements(self) -> list[Placement]:
        """Return where this lane's vehicles are now."""
        found = []
        for driver in self._drivers:
            along = (driver.front - driver.vehicle.length_m - _ROOM) * self.lane.pixels_per_metre
            rear = along if self.lane.direction > 0 else self._width - along
            found.append(Placement(driver.instance, driver.vehicle, self.lane, rear, driver.front))
        return found


def drive(
    lanes: tuple[Lane, ...], rng: np.random.Generator, *, width: int, frames: int, fps: float, traffic: float
) -> list[list[Placement]]:
    """Return the placements of every frame, far to near.

    `traffic` 1 is an ordinary street, 0 an empty one. Before the first frame shown, traffic runs until its
    first vehicles have left.
    """
    lively = [LaneTraffic(lane, rng, width=width, fps=fps, traffic=traffic) for lane in lanes]
    next_instance = [1]
    warm_up = max((lane.frames_to_fill for lane in lively), default=0)
    for lane in lively:
        lane.number(next_instance)
    shown = []
    for frame in range(warm_up + frames):
        for lane in lively:
            lane.step(next_instance)
        if frame >= warm_up:
            shown.append([placement for lane in lively for placement in lane.placements()])
    return shown
