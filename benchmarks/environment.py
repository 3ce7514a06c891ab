"""Where a benchmark ran: machine, instruction sets, threads, versions and commit."""

from __future__ import annotations

import os
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import saccade
from saccade.errors import InputError
from saccade.evaluate.video_run import machine_name
from saccade.kernels.cpu import choose_isa

ROOT = Path(__file__).resolve().parents[1]
RIVALS = ("openvino", "onnxruntime", "onnx", "onnxscript", "timm", "effdet")
# What engines choose their kernels by, and what the user may have told them.
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "amx_int8")
_SETTINGS = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "KMP_BLOCKTIME", "ONEDNN_MAX_CPU_ISA", "SACCADE_ISA")


def environment() -> dict[str, Any]:
    """Returns what a result depends on besides the code."""
    return {
        "machine": machine_name(),
        "cpu_flags": _cpu_flags(),
        "isa": _isa(),
        "threads": torch.get_num_threads(),
        "settings": {name: os.environ[name] for name in _SETTINGS if name in os.environ},
        "torch": torch.__version__,
        "rivals": {name: found for name in RIVALS if (found := _version(name)) is not None},
        "saccade": saccade.__version__,
        "commit": _commit(),
    }


def _isa() -> str | None:
    """Returns the instruction set the native engine runs with; None where it is not built."""
    try:
        return choose_isa()
    except InputError:
        return None


def _cpu_flags() -> list[str]:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(errors="replace").splitlines() if cpuinfo.is_file() else []
    has = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    return [flag for flag in _FLAGS if flag in has]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _commit() -> str:
    try:
        git = ["git", "-C", str(ROOT)]
        head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        dirty = subprocess.run([*git, "status", "--porcelain", "src"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+changes" if dirty.stdout.strip() else "")
