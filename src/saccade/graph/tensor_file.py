"""Tensors and a header of strings as one safetensors file: what plans and states are kept in. Nothing is unpickled."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from saccade.errors import FileFormatError


def tensor_bytes(tensor: Tensor) -> bytes:
    """Returns dtype, shape and the raw contents of a tensor."""
    flat = tensor.detach().contiguous().reshape(-1)
    return f"{tensor.dtype}{tuple(tensor.shape)}".encode() + flat.view(torch.uint8).numpy().tobytes()


def write_tensors(tensors: dict[str, Tensor], path: str | Path, header: dict[str, str]) -> None:
    """Writes tensors and a header of strings as one safetensors file."""
    try:
        save_file(tensors, str(path), metadata=header)
    except (OSError, SafetensorError) as error:
        raise FileFormatError(
            f"cannot write {path}: {error}. Name a file in an existing folder you may write to."
        ) from error


def read_tensors(path: str | Path, *, kind: str, version: int) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Returns tensors and header of a safetensors file written with format `kind`.

    Raises:
        FileFormatError: the file is missing, damaged, of another format, or of a newer version.
    """
    if not Path(path).is_file():
        raise FileFormatError(f"there is no file {path}; expected a {kind} file")
    try:
        with safe_open(str(path), framework="pt") as file:
            header = file.metadata() or {}
            if header.get("format") != kind:
                got = header.get("format", "a safetensors file of another program")
                raise FileFormatError(f"{path} is not a {kind} file but {got}; give one that Saccade saved")
            if header.get("version") != str(version):
                raise FileFormatError(
                    f"{path} is a {kind} file of version {header.get('version')}, this Saccade reads version "
                    f"{version}; save it again with this release"
                )
            return {name: file.get_tensor(name) for name in file.keys()}, header  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise FileFormatError(f"{path} is damaged or not a {kind} file ({error}); save it again") from error
