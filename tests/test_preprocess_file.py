"""A preprocess as a file: what is saved is what is loaded, and anything else is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from test_preprocess import preprocesses

from saccade.errors import FileFormatError
from saccade.preprocess import Preprocess


@settings(max_examples=60)
@given(preprocesses())
def test_what_is_saved_is_what_is_loaded(p: Preprocess) -> None:
    assert Preprocess.from_json(p.to_json()) == p


def test_a_file_is_the_json(tmp_path: Path) -> None:
    p = Preprocess(size=(4, 6), fit="letterbox", pad_value=(1, 2, 3))
    p.save(tmp_path / "p.json")
    assert (tmp_path / "p.json").read_text() == p.to_json()
    assert Preprocess.load(tmp_path / "p.json") == p
    assert json.loads(p.to_json())["format"] == "saccade-preprocess"
    assert json.loads(p.to_json())["version"] == 1


GOOD = json.loads(Preprocess(size=(4, 6)).to_json())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"preprocess JSON is not JSON \(.*\); it is damaged or another kind"),
        (Preprocess().to_json()[:-30], "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", 'expected a JSON object with "format": "saccade-preprocess", got \'list\''),
        ('{"format": "saccade-plan"}', 'with "format": "saccade-preprocess", got \'saccade-plan\''),
        (json.dumps(GOOD | {"version": 2}), "version 2, this Saccade reads version 1; update Saccade"),
        (json.dumps(GOOD | {"gamma": 2.2}), r"unknown or missing fields \['gamma'\]; expected \['antialias', "),
        (json.dumps({k: v for k, v in GOOD.items() if k != "std"}), r"unknown or missing fields \['std'\]"),
        (json.dumps(GOOD | {"size": [0, 6]}), r"size must be .* got \[0, 6\].*Write it again"),
        (json.dumps(GOOD | {"size": "big"}), "size must be .* got 'big'"),
        (json.dumps(GOOD | {"mean": [None]}), "mean must be a finite number, got None"),
        (json.dumps(GOOD | {"fit": ["crop"]}), "fit must be one of"),
        (json.dumps(GOOD | {"scale": float("nan")}), "scale must be a finite number, got nan"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(FileFormatError, match=message):
        Preprocess.from_json(text)
    path = tmp_path / "preprocess JSON"
    path.write_text(text)
    with pytest.raises(FileFormatError, match=message):
        Preprocess.load(path)


def test_a_file_that_cannot_be_read_or_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"cannot read .*none\.json: No such file"):
        Preprocess.load(tmp_path / "none.json")
    with pytest.raises(FileFormatError, match=r"cannot read .*: Is a directory"):
        Preprocess.load(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(FileFormatError, match=r"binary is not text; expected a file that Preprocess\.save wrote"):
        Preprocess.load(tmp_path / "binary")
    with pytest.raises(FileFormatError, match=r"cannot write .*p\.json: No such file or directory; choose"):
        Preprocess().save(tmp_path / "none" / "p.json")
