"""Low-rank compression of a trained network: spatial SVD or weight SVD with a search for the ranks.

The result is made of plain `nn.Conv2d`, so that it can be trained on, converted to Skip-Convolutions, exported.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from saccade.errors import InputError, ModelError
from saccade.graph.evaluating import evaluating
from saccade.graph.mac_counter import count_macs
from saccade.rivals.ledger import replace
from saccade.rivals.low_rank import KernelSVD, Kind
from saccade.rivals.ranks import Choice, RankCurve, RankOption, choices

Loss = Callable[[nn.Module], float]
_log = logging.getLogger(__name__)
SHARES = tuple(i / 10 for i in range(1, 10))  # of a layer's macs, the candidates of the search


@dataclass(frozen=True)
class LayerRank:
    """What became of one convolution.

    Attributes:
        name: where it stands in the model.
        rank: the rank it was given; None where it was kept whole.
        full_rank: the rank at which nothing is lost.
        dense_macs: its macs before, over the example.
        macs: its macs now, both parts.
        kernel_error: |w - w_R| / |w|, 0 where it was kept.
        reason: why it was kept; empty where it was not.
    """

    name: str
    rank: int | None
    full_rank: int
    dense_macs: int
    macs: int
    kernel_error: float
    reason: str = ""


@dataclass(frozen=True)
class DecomposeReport:
    """What `decompose` did.

    Attributes:
        dense_macs: macs of the whole network over the example before.
        macs: and now.
        loss: what the search measured of the whole decomposed network: the score lost, or the output's relative
            squared error.
        layers: one entry per 2d convolution, in the model's order.
    """

    kind: Kind
    dense_macs: int
    macs: int
    loss: float
    layers: list[LayerRank]

    @property
    def macs_fraction(self) -> float:
        """Macs now over macs before."""
        return self.macs / self.dense_macs if self.dense_macs else 1.0

    def __str__(self) -> str:
        rows = [
            f"{layer.name}: {layer.reason}"
            if layer.rank is None
            else f"{layer.name}: rank {layer.rank} of {layer.full_rank}, macs x {layer.macs / layer.dense_macs:.2f}, "
            f"kernel error {layer.kernel_error:.3f}"
            for layer in self.layers
        ]
        macs = f"macs x {self.macs_fraction:.3f} ({self.dense_macs} -> {self.macs})"
        return "\n".join([f"{self.kind} SVD: {macs}, loss {self.loss:.4g}", *rows])


def decompose(
    model: nn.Module,
    *,
    example: Tensor | tuple[Any, ...],
    ratio: float = 0.5,
    kind: Kind = "spatial",
    score: Callable[[nn.Module], float] | None = None,
    where: Callable[[str, nn.Conv2d], bool] = lambda name, conv: True,
    shares: Sequence[float] = SHARES,
) -> DecomposeReport:
    """Replaces convolutions in place by pairs of lower rank until the network costs `ratio` of its macs.

    For each layer and each share of its macs, the loss of decomposing that layer alone is measured; two rules
    (`ranks.py`) then choose one rank per layer, and the choice with which the whole network loses less is kept.
    Nothing is trained: fine-tune afterwards. The model is as it was when an error is raised.

    Args:
        model: a trained network.
        example: what the network takes, (N, C, H, W) or the tuple of its arguments: pictures without labels, which
            measure macs and, without a score, the loss.
        ratio: macs to keep, of all the network's; above 0, up to 1.
        kind: "spatial" or "weight".
        score: takes the network (in evaluation mode) and returns its accuracy, higher is better, the same each time
            for the same network. Without it the loss is the relative squared error of the outputs.
        where: takes a convolution's name and itself and says whether it may be decomposed.
        shares: shares of a layer's macs to try, each between 0 and 1.

    Raises:
        InputError: ratio, kind or shares are not as expected, or the ratio cannot be reached.
        ModelError: there is no convolution to decompose, or the model is itself one.
    """
    if not 0 < ratio <= 1:
        raise InputError(f"ratio={ratio}: expected the share of macs to keep, above 0 and up to 1")
    if not shares or not all(0 < share < 1 for share in shares):
        raise InputError(f"shares={list(shares)}: expected at least one, each between 0 and 1")
    arguments = example if isinstance(example, tuple) else (example,)
    dense_macs = count_macs(model, *arguments)
    sizes = _sizes(model, arguments)
    convs = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    kept = {name: _why_kept(name, conv, sizes, where) for name, conv in convs}
    layers = [_Layer(name, conv, kind, sizes[conv]) for name, conv in convs if not kept[name]]
    if not layers:
        raise ModelError(
            f"no convolution of this model can be decomposed: {kept or 'it has no 2d convolution'}. "
            "Plain nn.Conv2d with groups=1 that the example reaches can be"
        )
    budget = ratio * dense_macs - (dense_macs - sum(layer.dense_macs for layer in layers))
    with torch.no_grad(), evaluating(model):
        loss = _score_loss(model, score) if score else _output_loss(model, arguments)
        curves = [_measure(model, layer, shares, loss) for layer in layers]
        tried = [(_loss_of(model, layers, choice, loss), choice) for choice in choices(curves, budget)]
    lost, choice = min(tried, key=lambda entry: entry[0])
    for layer, option in zip(layers, choice, strict=True):
        if option is not None:
            replace(model, layer.conv, layer.svd.pair(option.rank))
    chosen = {layer.name: layer.row(option) for layer, option in zip(layers, choice, strict=True)}
    rows = []
    for name, conv in convs:
        macs = _dense_macs(conv, sizes)
        rows.append(chosen.get(name) or LayerRank(name, None, 0, macs, macs, 0.0, kept[name]))
    return DecomposeReport(kind, dense_macs, count_macs(model, *arguments), lost, rows)


class _Layer:
    """A convolution that may be decomposed: its factors, and its macs over the example, dense and per rank."""

    def __init__(self, name: str, conv: nn.Conv2d, kind: Kind, sizes: list[tuple[torch.Size, torch.Size]]) -> None:
        self.name, self.conv, self.svd = name, conv, KernelSVD(conv, kind)
        height, width = conv.kernel_size
        self.dense_macs = self.per_rank = 0
        for (n, inputs, _, columns_in), (_, outputs, rows, columns) in sizes:
            places = n * rows * columns
            self.dense_macs += places * outputs * inputs * height * width
            if kind == "spatial":  # the first part keeps the columns of its input
                self.per_rank += n * rows * columns_in * inputs * height + places * outputs * width
            else:
                self.per_rank += places * (inputs * height * width + outputs)

    def row(self, option: RankOption | None) -> LayerRank:
        full, dense = self.svd.full_rank, self.dense_macs
        if option is None:
            return LayerRank(self.name, None, full, dense, dense, 0.0, "kept whole by the search")
        return LayerRank(self.name, option.rank, full, dense, option.macs, self.svd.kernel_error(option.rank))


def _measure(model: nn.Module, layer: _Layer, shares: Sequence[float], loss: Loss) -> RankCurve:
    """Returns what each candidate rank of one layer costs, and what it loses alone."""
    ranks = {min(int(share * layer.dense_macs / layer.per_rank), layer.svd.full_rank) for share in shares} - {0}
    options = []
    for rank in sorted(ranks):
        pair = layer.svd.pair(rank)
        replace(model, layer.conv, pair)
        try:
            options.append(RankOption(rank, rank * layer.per_rank, loss(model)))
        finally:
            replace(model, pair, layer.conv)
    _log.info("%s: %s", layer.name, options)
    return RankCurve(layer.dense_macs, options)


def _loss_of(model: nn.Module, layers: list[_Layer], choice: Choice, loss: Loss) -> float:
    """Returns the loss of the network with every layer as chosen; the network is as before afterwards."""
    swapped: list[tuple[nn.Module, nn.Module]] = []
    try:
        for layer, option in zip(layers, choice, strict=True):
            if option is not None:
                pair: nn.Module = layer.svd.pair(option.rank)
                replace(model, layer.conv, pair)
                swapped.append((pair, layer.conv))
        return loss(model)
    finally:
        for pair, conv in swapped:
            replace(model, pair, conv)


def _score_loss(model: nn.Module, score: Callable[[nn.Module], float]) -> Loss:
    dense = float(score(model))
    return lambda network: dense - float(score(network))


def _output_loss(model: nn.Module, arguments: tuple[Any, ...]) -> Loss:
    """Returns the loss |y - y_dense|^2 / |y_dense|^2, meaned over the floating-point outputs."""

    def outputs(network: nn.Module) -> list[Tensor]:
        found = [leaf for leaf in pytree.tree_leaves(network(*arguments)) if isinstance(leaf, Tensor)]
        return [leaf.detach().double() for leaf in found if leaf.is_floating_point()]

    dense = [leaf.clone() for leaf in outputs(model)]
    if not dense:
        raise ModelError("the network returns no floating-point tensor, so its error cannot be measured. Give a score")

    def loss(network: nn.Module) -> float:
        pairs = zip(outputs(network), dense, strict=True)
        errors = [((y - y0).square().sum() / y0.square().sum().clamp(min=1e-300)).item() for y, y0 in pairs]
        return sum(errors) / len(errors)

    return loss


def _sizes(model: nn.Module, arguments: tuple[Any, ...]) -> dict[nn.Module, list[tuple[torch.Size, torch.Size]]]:
    """Returns the shapes (N, C, H, W) each 2d convolution reads and writes, one pair per call."""
    found: dict[nn.Module, list[tuple[torch.Size, torch.Size]]] = {}

    def note(module: nn.Module, inputs: Any, named: Any, output: Tensor) -> None:
        x = inputs[0] if inputs else named["input"]
        x = x if x.ndim == 4 else x[None]
        found.setdefault(module, []).append((x.shape, output.shape if output.ndim == 4 else output[None].shape))

    hooks = [m.register_forward_hook(note, with_kwargs=True) for m in model.modules() if isinstance(m, nn.Conv2d)]
    try:
        with torch.no_grad(), evaluating(model):
            model(*arguments)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _why_kept(name: str, conv: nn.Conv2d, sizes: Any, where: Callable[[str, nn.Conv2d], bool]) -> str:
    """Returns why a convolution is kept whatever the search says; empty where it is not."""
    if type(conv) is not nn.Conv2d:
        return f"a {type(conv).__name__} computes in its own way"
    if conv.groups != 1:
        return f"{conv.groups} groups"
    if conv not in sizes:
        return "the example does not reach it as a module"
    return "" if where(name, conv) else "left out by where"


def _dense_macs(conv: nn.Conv2d, sizes: dict[nn.Module, list[tuple[torch.Size, torch.Size]]]) -> int:
    return sum(output.numel() * conv.weight[0].numel() for _, output in sizes.get(conv, []))
