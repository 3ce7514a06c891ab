"""The door to the native module: what it says with and without one, and what the build put into it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from saccade.errors import InputError
from saccade.kernels import cpu

BUILD = Path(__file__).parents[1] / "build" / "native"
ALL = ("portable", "avx2", "avx512", "avx512bf16", "amx")
COMPILERS_OWN = ("DW.ref.__gxx_personality_v0", "__clang_call_terminate")

with_module = pytest.mark.skipif(cpu.native_module() is None, reason=f"no native module: {cpu.why_missing()}")


@pytest.fixture
def fresh() -> Iterator[None]:
    """The module is looked for again in this test, and once more after it."""
    cpu._load.cache_clear()
    cpu._warn.cache_clear()
    yield
    cpu._load.cache_clear()
    cpu._warn.cache_clear()


@pytest.fixture
def missing(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(cpu.MODULE_VARIABLE, raising=False)
    monkeypatch.setitem(sys.modules, cpu.NAME, None)


@pytest.mark.usefixtures("missing")
def test_a_missing_module_is_none_with_a_reason() -> None:
    assert cpu.native_module() is None
    assert cpu.why_missing() == "it was not built when Saccade was installed"
    assert cpu.built_isas() == cpu.machine_isas() == ()
    with pytest.raises(InputError, match=r"no native engine \(it was not built"):
        cpu.choose_isa()


@pytest.mark.usefixtures("missing")
def test_one_warning_says_why_and_what_to_do() -> None:
    with pytest.warns(RuntimeWarning) as caught:
        cpu.warn_once()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cpu.warn_once()
    (warning,) = caught
    assert str(warning.message).startswith(
        "Saccade's native engine is not available (it was not built when Saccade was installed): "
        "running on the reference executor, which computes everything and saves no time. Install a C++17 compiler"
    )
    assert warning.filename == __file__


@with_module
def test_no_warning_and_no_reason_where_the_module_is() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cpu.warn_once()
    assert cpu.why_missing() == ""


@pytest.mark.usefixtures("fresh")
def test_a_module_named_but_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cpu.MODULE_VARIABLE, "/no/such/module.so")
    assert cpu.native_module() is None
    assert cpu.why_missing() == "SACCADE_NATIVE_MODULE names /no/such/module.so, which is not there"
    with pytest.warns(RuntimeWarning, match="Correct SACCADE_NATIVE_MODULE or unset it"):
        cpu.warn_once()


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("name", ["_native.so", "_native.txt"])
def test_a_module_that_does_not_load(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    damaged = tmp_path / name
    damaged.write_bytes(b"not a library")
    monkeypatch.setenv(cpu.MODULE_VARIABLE, str(damaged))
    assert cpu.native_module() is None
    assert cpu.why_missing().startswith(f"it does not load: {damaged}")


@with_module
def test_another_build_of_the_module_can_be_named(tmp_path: Path) -> None:
    """In a process of its own: a module of that name is loaded once per process."""
    module = cpu.native_module()
    assert module is not None
    assert module.__file__ is not None
    other = tmp_path / "elsewhere" / Path(module.__file__).name
    other.parent.mkdir()
    other.write_bytes(Path(module.__file__).read_bytes())
    code = (
        "from saccade.kernels import cpu; module = cpu.native_module(); print(module.__file__)\n"
        "from saccade.kernels import _native; assert _native is module\n"
        "cpu._load.cache_clear(); assert cpu.native_module() is module"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, cpu.MODULE_VARIABLE: str(other)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.split() == [str(other)]


@with_module
def test_sets_are_named_from_the_plainest_to_the_best() -> None:
    assert cpu.built_isas() == tuple(name for name in ALL if name in cpu.built_isas())
    assert cpu.machine_isas() == tuple(name for name in cpu.built_isas() if name in cpu.machine_isas())
    assert cpu.machine_isas()[0] == "portable"


@with_module
def test_the_best_set_is_chosen_unless_another_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(cpu.ISA_VARIABLE, raising=False)
    assert cpu.choose_isa() == cpu.machine_isas()[-1]
    assert cpu.choose_isa("portable") == "portable"
    monkeypatch.setenv(cpu.ISA_VARIABLE, "portable")
    assert cpu.choose_isa() == "portable"
    assert cpu.choose_isa(cpu.machine_isas()[-1]) == cpu.machine_isas()[-1]
    monkeypatch.setenv(cpu.ISA_VARIABLE, "")
    assert cpu.choose_isa() == cpu.machine_isas()[-1]


@with_module
def test_an_unknown_set_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    here = ", ".join(cpu.machine_isas())
    with pytest.raises(
        InputError, match=rf"asked for is 'avx3', but there is no such set in this build; here there are: {here}$"
    ):
        cpu.choose_isa("avx3")
    monkeypatch.setenv(cpu.ISA_VARIABLE, "avx3")
    with pytest.raises(InputError, match=r"^SACCADE_ISA is 'avx3'"):
        cpu.choose_isa()


@with_module
def test_a_set_of_other_machines_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "machine_isas", lambda: ("portable",))
    monkeypatch.setattr(cpu, "built_isas", lambda: ("portable", "avx2"))
    with pytest.raises(InputError, match=r"'avx2', but this machine does not run it; here there are: portable$"):
        cpu.choose_isa("avx2")


@pytest.mark.skipif(not BUILD.is_dir(), reason="no object files: run `make native`")
def test_code_for_one_set_is_lent_to_no_other() -> None:
    """An inline function outside the set's namespace is merged by the linker into code that runs without the set."""
    commands = json.loads((BUILD / "compile_commands.json").read_text())
    objects = [BUILD / command["output"] for command in commands if "/isa_" in command["output"]]
    assert objects
    lent = []
    for path in objects:
        name = path.parents[1].name.removeprefix("isa_").removesuffix(".dir")
        listing = subprocess.run(["nm", "--defined-only", path], capture_output=True, text=True, check=True).stdout
        symbols = {symbol for kind, symbol in (line.split()[-2:] for line in listing.splitlines()) if kind in "WVuTDBR"}
        own = f"7saccade{len(name)}{name}"
        lent += [f"{name}/{path.name}: {symbol}" for symbol in symbols.difference(COMPILERS_OWN) if own not in symbol]
    assert lent == []
