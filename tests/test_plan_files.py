"""Plans and programs as files, and what is refused with what message."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from networks import RandomNetwork
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import saccade
from saccade.errors import FileFormatError, ModelError
from saccade.graph.arguments import decode, encode
from saccade.kernels.call import RESULT, Ref

X = torch.linspace(-1, 1, 1 * 4 * 9 * 7).reshape(1, 4, 9, 7)


@pytest.mark.parametrize("seed", range(4))
def test_plans_round_trip_through_a_file(seed: int, tmp_path: Path) -> None:
    preprocess = saccade.Preprocess(size=(13, 17), mean=(0.5,), std=(0.25,))
    plan = saccade.make_plan(RandomNetwork(seed), torch.zeros(1, 3, 13, 17), preprocess=preprocess)
    plan.save(tmp_path / "a.plan")
    again = saccade.Plan.load(tmp_path / "a.plan")
    assert str(again) == str(plan)
    assert again.digest == plan.digest
    assert again.preprocess == preprocess
    frame = torch.rand(1, 3, 13, 17)
    for a, b in zip(
        pytree.tree_leaves(saccade.Stream(plan)(frame)),
        pytree.tree_leaves(saccade.Stream(again)(frame)),
        strict=True,
    ):
        assert torch.equal(a, b)


def test_every_kind_of_argument_round_trips() -> None:
    tree = [
        None, True, 3, 0.5, float("inf"), -float("inf"), "same", torch.float64, torch.contiguous_format, torch.strided,
        torch.device("cpu"), Ref("value", "x"), RESULT, [1, [2.5, None]],
    ]  # fmt: skip
    assert decode(json.loads(json.dumps(encode(tree), allow_nan=False))) == tree
    assert math.isnan(decode(encode(float("nan"))))
    with pytest.raises(TypeError, match="a plan cannot hold an argument of type complex"):
        encode(1j)


def test_digest_tells_weights_apart() -> None:
    plans = [saccade.make_plan(nn.Conv2d(4, 2, 3).eval(), X) for _ in range(2)]
    assert plans[0].digest != plans[1].digest


class DataDependent(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.sum() > 0 else x


class Nonzero(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[x > 0]


class Random(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand_like(x)


class Counter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        return x + self.count


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (DataDependent(), r"(?s)torch.export refuses DataDependent.*torch.where"),
        (Nonzero(), r"depends on the data.*Move it"),
        (Random(), r"draws random numbers.*aten.rand"),
        (Counter(), r"writes to its own buffers or weights while it runs \(count\)"),
        (nn.Conv2d(3, 2, 3), r"(?s)torch.export refuses Conv2d.*check that the example fits"),
    ],
    ids=lambda item: type(item).__name__,
)
def test_models_that_cannot_be_planned_are_refused_with_the_reason(model: nn.Module, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        saccade.make_plan(model, X)


class Found(NamedTuple):
    scores: Tensor
    maps: dict[str, Tensor]


class Named(nn.Module):
    def forward(self, x: Tensor) -> list[Found]:
        return [Found(x.mean((2, 3)), {"x": x * 2})]


class Keyed(nn.Module):
    def forward(self, x: Tensor) -> dict[Any, Tensor]:
        return {torch.float32: x * 2}


def test_results_that_torch_cannot_write_down_are_refused_with_what_to_do() -> None:
    with pytest.raises(ModelError, match=r"Named returns tensors in Found, which .*_register_namedtuple\(Class, "):
        saccade.make_plan(Named(), X)
    with pytest.raises(ModelError, match=r"Keyed returns tensors in a dict whose keys are no strings"):
        saccade.make_plan(Keyed(), X)
    pytree._register_namedtuple(Found, serialized_type_name="test_plan_files.Found")
    found = saccade.Stream(Named(), X)(X)
    assert isinstance(found[0], Found)
    assert torch.equal(found[0].maps["x"], X * 2)


def test_a_module_without_an_example_is_refused() -> None:
    with pytest.raises(ModelError, match="needs an example input: got none"):
        saccade.make_plan(nn.ReLU())


def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    good = tmp_path / "good.plan"
    saccade.make_plan(nn.Conv2d(4, 2, 3).eval(), X).save(good)
    content = good.read_bytes()
    cases = {
        "missing.plan": (None, "there is no file"),
        "empty.plan": (b"", "is damaged or not a saccade-plan file"),
        "text.plan": (b"hello, this is a text" * 10, "is damaged or not a saccade-plan file"),
        "cut.plan": (content[: len(content) // 2], "is damaged or not a saccade-plan file"),
        "operator.plan": (content.replace(b"aten.conv2d", b"aten.conv9d"), "the plan in .* is damaged"),
    }
    for name, (data, message) in cases.items():
        if data is not None:
            (tmp_path / name).write_bytes(data)
        with pytest.raises(FileFormatError, match=message):
            saccade.Plan.load(tmp_path / name)
    save_file({"w": torch.zeros(1)}, str(tmp_path / "foreign.plan"))
    with pytest.raises(FileFormatError, match="not a saccade-plan file but a safetensors file of another program"):
        saccade.Plan.load(tmp_path / "foreign.plan")
    save_file({}, str(tmp_path / "new.plan"), metadata={"format": "saccade-plan", "version": "99"})
    with pytest.raises(FileFormatError, match="version 99, this Saccade reads version 1"):
        saccade.Plan.load(tmp_path / "new.plan")
    with pytest.raises(FileFormatError, match=r"cannot write .* Name a file in an existing folder"):
        saccade.Plan.load(good).save(tmp_path / "nowhere" / "a.plan")


@pytest.mark.parametrize("content", [b"", b"not a program", b"PK\x03\x04 cut short"])
def test_damaged_programs_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.pt2").write_bytes(content)
    with pytest.raises(FileFormatError, match=r"m.pt2 \(\d+ bytes\) is not an exported program, or a damaged one"):
        saccade.make_plan(tmp_path / "m.pt2")
    with pytest.raises(FileFormatError, match="there is no file"):
        saccade.make_plan(tmp_path / "none.pt2")


def test_a_pickle_in_disguise_is_not_run(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "m.pt2")
    with pytest.raises(FileFormatError, match=r"is a zip file, but no exported program.*export the module itself"):
        saccade.make_plan(tmp_path / "m.pt2")
