"""The instruction sets to test: all in `make test-slow`; portable, AVX2 and the best this machine has in `make test`.

Between AVX2 and the best lie sets whose code is the best's in all but a few instructions, and every set more makes the
native tests that much longer.
"""

from __future__ import annotations

from typing import Any

import pytest

from saccade.kernels import cpu

ISAS = cpu.machine_isas()
ALWAYS = {"portable", "avx2", *ISAS[-1:]}
EACH_ISA: list[Any] = [name if name in ALWAYS else pytest.param(name, marks=pytest.mark.slow) for name in ISAS]
every_isa = pytest.mark.parametrize("isa", EACH_ISA)
