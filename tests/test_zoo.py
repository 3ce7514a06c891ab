"""Models by name: what each way of naming one gives, and what it says when it cannot."""

from __future__ import annotations

import importlib.util
import logging
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from saccade.errors import FileFormatError, ModelError
from saccade.preprocess import Preprocess
from saccade.zoo import load_model
from saccade.zoo.torchvision_repair import import_extra

needs_timm = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")
needs_effdet = pytest.mark.skipif(importlib.util.find_spec("effdet") is None, reason="effdet is not installed")


def export(path: Path, model: nn.Module, *example: torch.Tensor, extra: dict[str, str] | None = None) -> str:
    torch.export.save(torch.export.export(model.eval(), example), path, extra_files=extra)
    return str(path)


def picture_net(channels: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, outputs, 3, padding=1), nn.ReLU())


# --- names


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("street-dettector", r"no model 'street-dettector'.*Did you mean street-detector\?"),
        ("resnet18", r"no model 'resnet18'.*A timm network is called timm:resnet18"),
        ("no such thing", r"no model 'no such thing'; expected one of: street-detector, actions, timm:NAME"),
        ("", r"no model ''; expected one of"),
        ("a/b:c", r"no model 'a/b:c'"),
    ],
)
def test_an_unknown_name_says_what_is_possible(name: str, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        load_model(name)


# --- .pt2 files


@pytest.mark.parametrize(
    ("channels", "outputs", "kind", "order"),
    [
        (1, 1, "dense-map", "grey"),
        (3, 3, "dense-map", "rgb"),
        (3, 5, "segmentation", "rgb"),
        (3, 2, "segmentation", "rgb"),
        (2, 4, "segmentation", None),
    ],
)
def test_a_program_file_gives_the_same_network_and_the_plainest_preprocess(
    tmp_path: Path, channels: int, outputs: int, kind: str, order: str | None
) -> None:
    model, x = picture_net(channels, outputs), torch.rand(1, channels, 12, 20)
    loaded = load_model(export(tmp_path / "net.pt2", model, x))
    assert loaded.kind == kind
    assert torch.equal(loaded.example[0], x)
    torch.testing.assert_close(loaded.as_callable()(x), model(x), rtol=0, atol=0)
    assert loaded.preprocess == (None if order is None else Preprocess(size=(12, 20), channels=order))


def test_a_classifier_file_is_a_classification(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 7))
    assert load_model(export(tmp_path / "net.pt2", model, torch.rand(1, 3, 9, 9))).kind == "classification"


def test_the_preprocess_stored_in_a_program_wins(tmp_path: Path) -> None:
    own = Preprocess(size=(12, 20), fit="letterbox", channels="bgr", mean=(0.1, 0.2, 0.3), std=(2.0,))
    extra = {"saccade_preprocess.json": own.to_json()}
    path = export(tmp_path / "net.pt2", picture_net(3, 3), torch.rand(1, 3, 12, 20), extra=extra)
    assert load_model(path).preprocess == own


def test_a_damaged_preprocess_in_a_program_is_named(tmp_path: Path) -> None:
    extra = {"saccade_preprocess.json": "{"}
    path = export(tmp_path / "net.pt2", picture_net(3, 3), torch.rand(1, 3, 8, 8), extra=extra)
    with pytest.raises(FileFormatError, match=r"net\.pt2: saccade_preprocess\.json inside it: .*not JSON"):
        load_model(path)


def test_a_program_without_kept_example_gives_zeros_of_its_shape(tmp_path: Path) -> None:
    program = torch.export.export(picture_net(3, 3), (torch.rand(1, 3, 8, 10),))
    program.example_inputs = None
    torch.export.save(program, tmp_path / "net.pt2")
    (example,) = load_model(str(tmp_path / "net.pt2")).example
    assert example.shape == (1, 3, 8, 10)


def test_a_program_that_wants_keywords_is_refused(tmp_path: Path) -> None:
    class Keyword(nn.Module):
        def forward(self, *, picture: torch.Tensor) -> torch.Tensor:
            return picture + 1

    program = torch.export.export(Keyword(), (), {"picture": torch.rand(1, 3, 8, 8)})
    torch.export.save(program, tmp_path / "net.pt2")
    with pytest.raises(ModelError, match=r"takes tensors, by position; this program's inputs are: picture="):
        load_model(str(tmp_path / "net.pt2"))


def break_weights(content: bytearray, path: Path) -> None:
    """Flips bits in the middle of a weight: the file still opens, and its numbers are wrong."""
    with zipfile.ZipFile(path) as archive:
        entry = next(info for info in archive.infolist() if "weight_0" in info.filename)
    offset = entry.header_offset + 30 + len(entry.filename) + 200
    content[offset : offset + 8] = bytes(255 - byte for byte in content[offset : offset + 8])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("missing", r"there is no file .*net\.pt2"),
        ("empty", r"\(0 bytes\) is not an exported program, or a damaged one"),
        ("text", r"is not an exported program, or a damaged one"),
        ("half", r"is not an exported program, or a damaged one"),
        ("flipped", r"is damaged: the checksum of '.*weight_0' inside it does not match"),
        ("zip", r"is a zip file, but no exported program: it holds a\.txt"),
        ("checkpoint", r"A checkpoint made with torch\.save holds no network"),
        ("hollow", r"is not a program torch can load"),
        ("folder", r"there is no file"),
    ],
)
def test_a_bad_program_file_is_one_clear_error(
    tmp_path: Path, damage: str, said: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "net.pt2"
    export(path, picture_net(3, 16), torch.rand(1, 3, 8, 8))
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        break_weights(content, path)
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.txt", "x")
    elif damage == "hollow":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("net/archive_format", "pt2")
    elif damage == "checkpoint":
        torch.save({"weight": torch.zeros(2)}, path)
    elif damage != "missing":
        path.write_bytes(
            {"empty": b"", "text": b"hello " * 99, "half": content[: len(content) // 2]}.get(damage, content)
        )
    with pytest.raises(FileFormatError, match=said), caplog.at_level(logging.DEBUG):
        load_model(str(path))
    assert (
        "Traceback" not in caplog.text + capfd.readouterr().err
    )  # torch logs one, after which nobody finds the message


# --- factories

FACTORIES = """
import torch
from torch import nn
from saccade.zoo import LoadedModel

def pair():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Dropout()), torch.zeros(1, 1, 6, 7)

def two_inputs():
    return nn.Bilinear(2, 2, 2), (torch.zeros(1, 2), torch.zeros(1, 2))

def loaded():
    return LoadedModel(name="x", model=nn.Identity(), example=(torch.zeros(1, 3, 4, 4),), kind="dense-map")

def broken():
    raise RuntimeError("no weights today")

def nothing():
    return None

def wrong_pair():
    return nn.Identity(), "picture"

number = 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for module in ("my_nets", "my_broken", "my_needy"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    (tmp_path / "my_nets.py").write_text(FACTORIES)
    (tmp_path / "my_broken.py").write_text("1 / 0")
    (tmp_path / "my_needy.py").write_text("import not_there_at_all")
    importlib.invalidate_caches()
    return tmp_path


def test_a_factory_in_the_current_folder_gives_a_model_and_the_path_is_left_as_it_was(folder: Path) -> None:
    before = list(sys.path)
    loaded = load_model("my_nets:pair")
    assert sys.path == before
    assert isinstance(loaded.model, nn.Module)
    assert not loaded.model.training
    assert loaded.preprocess == Preprocess(size=(6, 7), channels="grey")
    assert [tuple(x.shape) for x in load_model("my_nets:two_inputs").example] == [(1, 2), (1, 2)]
    assert load_model("my_nets:two_inputs").preprocess is None
    assert load_model("my_nets:loaded").kind == "dense-map"
    assert load_model("my_nets:loaded").name == "my_nets:loaded"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("my_netz:pair", r"there is no module 'my_netz', neither installed nor in"),
        ("my_nets:pear", r"my_nets \(.*my_nets\.py\) has no 'pear'; did you mean pair\?"),
        ("my_nets:number", r"number is a int, not a function"),
        ("my_nets:broken", r"broken\(\) failed: RuntimeError: no weights today"),
        ("my_nets:nothing", r"nothing\(\) returned NoneType; expected a LoadedModel, or a pair"),
        ("my_nets:wrong_pair", r"wrong_pair\(\) returned \(Identity, str\); expected"),
        ("my_broken:pair", r"importing my_broken failed: ZeroDivisionError"),
        ("my_needy:pair", r"importing my_needy failed: No module named 'not_there_at_all'"),
        ("my_nets.sub:pair", r"there is no module 'my_nets.sub'|importing my_nets.sub failed"),
    ],
)
def test_a_bad_factory_is_one_clear_error(folder: Path, name: str, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        load_model(name)


# --- the shipped detector, timm, effdet


def test_the_street_detector_fits_its_own_example() -> None:
    from saccade.zoo.street_detector import WEIGHTS

    if not WEIGHTS.exists():
        pytest.skip("the street detector's weights are not there yet")
    loaded = load_model("street-detector")
    frame = torch.randint(0, 256, (256, 448, 3), dtype=torch.uint8)
    assert loaded.preprocess is not None
    assert loaded.preprocess(frame).shape == loaded.example[0].shape
    assert loaded.decode is not None
    with torch.no_grad():
        (found,) = loaded.decode(loaded.as_callable()(*loaded.example))
    assert all(label < len(loaded.class_names) for label in found.labels.tolist())


@needs_timm
def test_a_timm_network_has_the_same_random_weights_every_time_and_torch_keeps_its_own() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = load_model("timm:resnet10t")
    assert torch.equal(torch.rand(3), expected)
    second = load_model("timm:resnet10t")
    assert isinstance(first.model, nn.Module)
    assert isinstance(second.model, nn.Module)
    assert all(torch.equal(a, b) for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True))
    assert first.weights == "random, seed 0"
    assert first.kind == "classification"
    assert not first.model.training


@needs_timm
def test_a_timm_network_is_prepared_as_timm_evaluates_it() -> None:
    timm = import_extra("timm", extra="zoo")
    image = import_extra("PIL.Image", extra="zoo")
    loaded = load_model("timm:resnet10t")
    assert loaded.preprocess is not None
    settings = timm.data.resolve_data_config(loaded.model.pretrained_cfg)  # type: ignore[union-attr]
    theirs = timm.data.create_transform(**settings, is_training=False)
    pixels = torch.randint(0, 256, (30, 40, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    pixels = pixels.repeat_interleave(9, 0).repeat_interleave(9, 1)
    wanted = theirs(image.fromarray(pixels.numpy()))[None]
    got = loaded.preprocess(pixels)
    assert got.shape == wanted.shape == loaded.example[0].shape
    assert float((got - wanted).abs().mean()) < 0.02  # PIL rounds to whole grey levels between its two passes


@needs_timm
def test_weights_that_cannot_be_downloaded_are_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    timm = import_extra("timm", extra="zoo")

    def no_network(name: str, pretrained: bool) -> nn.Module:
        assert pretrained
        raise OSError("no route to host\nmore")

    monkeypatch.setattr(timm, "create_model", no_network)
    with pytest.raises(ModelError, match=r"weights cannot be loaded \(OSError: no route to host\)\. Without @pretr"):
        load_model("timm:resnet10t@pretrained")


@needs_timm
def test_an_unknown_timm_network_has_near_matches() -> None:
    with pytest.raises(ModelError, match=r"timm has no network 'resnte18'. Did you mean timm:resnet18"):
        load_model("timm:resnte18")


@needs_effdet
def test_an_unknown_effdet_network_has_near_matches() -> None:
    with pytest.raises(ModelError, match=r"effdet has no network 'efficientdet_d99'. Did you mean effdet:"):
        load_model("effdet:efficientdet_d99")


@needs_effdet
def test_effdet_boxes_are_those_of_its_own_decoding() -> None:
    loaded = load_model("effdet:tf_efficientdet_lite0")
    anchors = import_extra("effdet.anchors", extra="zoo")
    bench = import_extra("effdet.bench", extra="zoo")
    assert loaded.decode is not None
    config = loaded.model.config  # type: ignore[union-attr]
    sizes = anchors.get_feat_sizes(config.image_size, config.max_level)[config.min_level :]
    draw = torch.Generator().manual_seed(2)
    scale = [(90 * 9, 1.0, -3.0), (4 * 9, 0.3, 0.0)]
    outputs = tuple(
        [mean + std * torch.randn(1, c, h, w, generator=draw, dtype=torch.float64) for h, w in sizes]
        for c, std, mean in scale
    )
    logits, offsets, places, labels = bench._post_process(*outputs, config.num_levels, 90, 1000)
    wanted = anchors.decode_box_outputs(
        offsets[0], anchors.Anchors.from_config(config).boxes[places[0]], output_xyxy=True
    ).clamp(0, config.image_size[0])
    (found,) = loaded.decode(outputs, score_threshold=0.0, iou_threshold=1.0)  # type: ignore[call-arg]
    torch.testing.assert_close(found.boxes, wanted.float(), rtol=0, atol=1e-3)
    torch.testing.assert_close(found.scores, logits[0, :, 0].sigmoid().float(), rtol=0, atol=0)
    assert torch.equal(found.labels, labels[0])
