"""The first screen of README runs as it stands and prints what README says it prints."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

README = (Path(__file__).resolve().parents[1] / "README.md").read_text()


def test_the_first_example_prints_what_readme_says() -> None:
    code, shown = re.findall(r"```(?:python|text)\n(.*?)```", README, flags=re.DOTALL)[:2]
    assert "saccade.Stream(" in code
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {})
    got = [float(value) for value in re.findall(r"([\d.]+) %", printed.getvalue())]
    said = [float(value) for value in re.findall(r"([\d.]+) %", shown)]
    assert len(got) == 20
    assert got[0] == 100.0
    # README shows the first frames; another processor may round a comparison otherwise: a tenth more or less is right
    for a, b in zip(got, said, strict=False):
        assert abs(a - b) <= 0.1 * b


def test_every_path_readme_names_exists() -> None:
    root = Path(__file__).resolve().parents[1]
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (root / target).exists(), target
    for module in re.findall(r"python -m ([\w.]+)", README):
        path = root / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module


@pytest.mark.parametrize("page", ["skip"])
def test_the_example_of_a_page_runs(page: str) -> None:
    text = (Path(__file__).resolve().parents[1] / "docs" / f"{page}.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(code, f"docs/{page}.md", "exec"), {})
