"""Elementwise calls as the engine's row operations."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from saccade.kernels.call import RESULT, Call, Ref
from saccade.kernels.cpu import native_module
from saccade.masks import ValueSpec
from saccade.stream.native.builder import Builder, OpData, Operand, Support, SupportData, UnfitError
from saccade.stream.native.layout import is_identity, numbered

_SIMPLE = frozenset(
    "relu sigmoid silu tanh hardswish hardsigmoid mish exp log sqrt rsqrt reciprocal neg abs square".split()
)
_SELF_FIRST = {"add": "add", "sub": "sub", "mul": "mul", "div": "div", "maximum": "maximum", "minimum": "minimum"}
_OTHER_FIRST = {"add": "add", "sub": "rsub", "mul": "mul", "div": "rdiv", "maximum": "maximum", "minimum": "minimum"}


@cache
def _number(op: str) -> int:
    module = native_module()
    assert module is not None
    return list(module.row_ops()).index(op)


class Rows:
    """The row operations of one step, and what they read besides the row."""

    def __init__(self, builder: Builder, out: ValueSpec) -> None:
        self.builder, self.out = builder, out
        self.ops: list[OpData] = []
        self.supports: list[SupportData] = []

    def add(self, call: Call, row: Ref = RESULT) -> None:
        """Appends a call whose argument `row` is the row so far; raises UnfitError where there is no such operation."""
        arguments, base = call.arguments, call.base
        if base == "square" or (base == "pow" and arguments.get("exponent") == 2):
            self._plain("square")
        elif base in _SIMPLE:
            self._plain(base)
        elif base in _SELF_FIRST:
            self._binary(base, call, row)
        elif base == "rsub":
            swapped = {**arguments, "self": arguments["other"], "other": arguments["self"]}
            self._binary("sub", Call("aten.sub.Tensor", swapped), row)
        elif base == "addcmul":
            self._addcmul(call, row)
        elif base == "prelu":
            if arguments["self"] != row:
                raise UnfitError("its slope is computed")
            self._operand("prelu", arguments["weight"], 1.0, per_channel=True)
        elif base in ("relu6", "hardtanh", "clamp", "clamp_min", "clamp_max"):
            self._clamp(base, arguments)
        else:
            self._curve(base, call)

    def _curve(self, base: str, call: Call) -> None:
        arguments = call.arguments
        if base == "leaky_relu":
            self._plain("leaky_relu", arguments["negative_slope"])
        elif base == "gelu":
            self._plain("gelu" if arguments["approximate"] == "none" else "gelu_tanh")
        elif base == "elu":
            self._plain("elu", arguments["alpha"], arguments["scale"], arguments["input_scale"])
        elif base == "celu":
            alpha = arguments["alpha"]
            self._plain("elu", alpha, 1.0, 1.0 / alpha)
        elif base == "selu":
            self._plain("elu", 1.6732632423543772848170429916717, 1.0507009873554804934193349852946, 1.0)
        elif base == "softplus":
            self._plain("softplus", arguments["beta"], arguments["threshold"])
        elif base == "pow" and isinstance(arguments["exponent"], (int, float)) and arguments["self"] == RESULT:
            self._plain("power", arguments["exponent"])
        elif base == "_to_copy" and arguments.get("dtype") in (None, torch.float32):
            return
        else:
            raise UnfitError(f"no row operation for {call.target}")

    def _plain(self, op: str, alpha: float = 0.0, beta: float = 0.0, gamma: float = 0.0) -> None:
        self.ops.append((_number(op), Operand.NONE, float(alpha), float(beta), float(gamma), 0, 0, -1, 0, 0, 0))

    def _clamp(self, base: str, arguments: Any) -> None:
        low, high = {
            "relu6": (0.0, 6.0),
            "hardtanh": (arguments.get("min_val"), arguments.get("max_val")),
            "clamp": (arguments.get("min"), arguments.get("max")),
            "clamp_min": (arguments.get("min"), None),
            "clamp_max": (None, arguments.get("max")),
        }[base]
        if isinstance(low, Ref) or isinstance(high, Ref):
            raise UnfitError("its bounds are computed")
        self._plain("clamp", float("-inf") if low is None else low, float("inf") if high is None else high)

    def _binary(self, base: str, call: Call, row: Ref) -> None:
        first, second = call.arguments["self"], call.arguments["other"]
        scale = call.arguments.get("alpha")
        alpha = 1.0 if scale is None else float(scale)
        if call.arguments.get("rounding_mode") is not None:
            raise UnfitError("it rounds")
        if first == row:
            self._operand(_SELF_FIRST[base], second, alpha)
        elif second != row:
            raise UnfitError("it does not read the row")
        elif base == "add" and alpha != 1:
            raise UnfitError("it scales the row it adds to")
        else:
            self._operand(_OTHER_FIRST[base], first, alpha)

    def _addcmul(self, call: Call, row: Ref) -> None:
        base, left, right = (call.arguments[name] for name in ("self", "tensor1", "tensor2"))
        if left != row:
            left, right = right, left
        if left != row or call.arguments["value"] != 1:
            raise UnfitError("no row operation for this addcmul")
        self._operand("mul", right, 1.0)
        self._operand("add", base, 1.0)

    def _operand(self, op: str, given: Any, alpha: float, *, per_channel: bool = False) -> None:
        """Appends an operation with a second operand: a number, a weight, or another value."""
        numbers = count = 0
        value, address, broadcast, gamma = -1, 0, 0, 0.0
        if not isinstance(given, Ref):
            kind, gamma = Operand.SCALAR, float(given)
        elif given.kind == "weight":
            weight = self.builder.weight(given.name)
            if not weight.is_floating_point():
                raise UnfitError("it reads whole numbers")
            kind, gamma, values = self._constant(weight, per_channel=per_channel)
            if values is not None:
                numbers, count = self.builder.numbers(values), values.numel()
        elif given.kind == "value":
            kind = Operand.ROWS
            value = self.builder.ids[given.name]
            address, broadcast = self._aligned(given.name)
        else:
            raise UnfitError("it reads the row twice")
        map_count = self.out.positions if address else 0
        self.ops.append((_number(op), kind, alpha, 0.0, gamma, numbers, count, value, address, map_count, broadcast))

    def _constant(self, weight: Tensor, *, per_channel: bool) -> tuple[Operand, float, Tensor | None]:
        """Returns a constant operand: one number, a vector of the channels, or a row for every position."""
        axis = self.out.channel_axis
        if weight.numel() == 1:
            return Operand.SCALAR, float(weight), None
        if per_channel:  # prelu's slopes lie along the second axis
            if axis != 1:
                raise UnfitError("its slopes do not lie along the channels")
            return Operand.CHANNELS, 0.0, weight.reshape(-1)
        if axis is None:
            raise UnfitError("a constant operand of a value without channels")
        full = weight.expand(self.out.shape).movedim(axis, -1).reshape(self.out.positions, self.out.channels)
        ahead = weight.shape[: max(0, weight.dim() - (len(self.out.shape) - axis))]
        behind = weight.shape[weight.dim() - (len(self.out.shape) - axis) + 1 :] if weight.dim() else ()
        if all(size == 1 for size in (*ahead, *behind)):
            return Operand.CHANNELS, 0.0, full[0]
        return Operand.ROWS, 0.0, full

    def _aligned(self, name: str) -> tuple[int, int]:
        """Returns the address of the operand's row of each position (0: the same), and whether it has one channel."""
        spec, out = self.builder.spec(name), self.out
        address, broadcast = align(self.builder, spec, out)
        kind = Support.MAP if address else Support.SAME
        self.supports.append((kind, self.builder.ids[name], address, out.positions if address else 0, 1))
        return address, broadcast


def align(builder: Builder, spec: ValueSpec, out: ValueSpec) -> tuple[int, int]:
    """Returns how a value's rows broadcast against `out`: address of a map (0: row = position), one channel or all.

    Raises:
        UnfitError: its channels do not lie along those of `out`.
    """
    if spec.dtype != "float32":
        raise UnfitError(f"it reads {spec.dtype}")
    if spec == out:
        return 0, 0
    shift = len(out.shape) - len(spec.shape)
    rows, channels = (index.expand(out.shape) for index in numbered(spec))
    if shift < 0:
        raise UnfitError("an operand with more axes than the result")
    own, theirs = _by_row(rows, out), _by_row(channels, out)
    if not bool((own == own[:, :1]).all()):
        raise UnfitError("an operand whose channels lie elsewhere")
    wide = out.channels > 1
    broadcast = int(wide and bool((theirs == 0).all()))
    if not broadcast and not bool((theirs == torch.arange(out.channels)).all()):
        raise UnfitError("an operand whose channels lie elsewhere")
    index = own[:, 0]
    if is_identity(index) and spec.positions == out.positions:
        return 0, broadcast
    return builder.indices(index), broadcast


def _by_row(index: Tensor, out: ValueSpec) -> Tensor:
    if out.channel_axis is None:
        return index.reshape(-1, 1)
    return index.movedim(out.channel_axis, -1).reshape(out.positions, out.channels)
