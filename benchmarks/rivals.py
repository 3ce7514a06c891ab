"""The dense engines Saccade is measured against, all called alike.

Each takes one input tensor and gives the network's outputs as a flat list of float32 tensors, with a fixed number of
threads. What an engine gives may be its own memory, valid until its next call.

Threads: two pools of threads that spin while idle slow each other down many times over on a small machine, so every
engine gets one thread unless more are asked for, ONNX Runtime may not spin, and every benchmark sets
`OMP_WAIT_POLICY=passive` and `KMP_BLOCKTIME=0` before torch is imported, so that torch's pool does not spin either.

ONNX files are made once, in the ignored folder `out/onnx`, under a name that holds a digest of the weights.
"""

from __future__ import annotations

import copy
import hashlib
import importlib
import logging
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from benchmarks.environment import ROOT
from saccade.errors import MissingExtraError
from saccade.graph.tensor_file import tensor_bytes

FOLDER = ROOT / "out" / "onnx"
_OPENVINO_PRECISION = {"float32": "f32", "bfloat16": "bf16"}


class Rival(ABC):
    """A dense engine with a network in it.

    Attributes:
        name: engine and precision, as "openvino bfloat16".
        threads: how many threads it uses.
    """

    name: str
    threads: int

    @abstractmethod
    def __call__(self, x: Tensor) -> list[Tensor]:
        """Returns the network's outputs, flattened, as float32; they may be valid until the next call only."""


class OpenVino(Rival):
    """OpenVINO on the CPU, one stream of inferences, tuned for latency.

    Args:
        path: an ONNX file.
        precision: of the inference; None sets nothing and takes OpenVINO's own choice, which is bfloat16 where the
            processor has it.
        threads: how many.
    """

    def __init__(self, path: Path, *, precision: str | None = "float32", threads: int = 1) -> None:
        self.name, self.threads = f"openvino {precision or 'default'}", threads
        self.compiled = compile_openvino(
            path, precision=precision, PERFORMANCE_HINT="LATENCY", INFERENCE_NUM_THREADS=threads, NUM_STREAMS=1
        )

    def __call__(self, x: Tensor) -> list[Tensor]:
        """See `Rival`; the outputs are OpenVINO's own memory, as copying would be charged to it."""
        given = self.compiled(x.numpy(), share_inputs=True, share_outputs=True)
        return [torch.from_numpy(given[port]) for port in self.compiled.outputs]


class OpenVinoThroughput:
    """OpenVINO on the CPU tuned for throughput: many frames in flight at once, no answer before the last of them.

    Args:
        path: an ONNX file.
        precision: of the inference; None takes OpenVINO's own choice.
        threads: how many, for all inferences together.
    """

    def __init__(self, path: Path, *, precision: str | None = "float32", threads: int = 1) -> None:
        self.name, self.threads = f"openvino {precision or 'default'} throughput", threads
        self._compiled = compile_openvino(
            path, precision=precision, PERFORMANCE_HINT="THROUGHPUT", INFERENCE_NUM_THREADS=threads
        )
        self._queue = import_bench("openvino").AsyncInferQueue(self._compiled)  # as many jobs as OpenVINO finds best

    def run(self, frames: Iterable[Tensor]) -> None:
        """Runs the network on all frames and returns when all are done."""
        for frame in frames:
            self._queue.start_async({0: frame.numpy()}, share_inputs=True)
        self._queue.wait_all()

    def __call__(self, x: Tensor) -> list[Tensor]:
        """Returns the network's outputs for one frame, for comparing; not for measuring."""
        given = self._compiled(x.numpy())
        return [torch.from_numpy(given[port]) for port in self._compiled.outputs]


class OnnxRuntime(Rival):
    """ONNX Runtime on the CPU in float32, all optimisations, no spinning threads."""

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        self.name, self.threads = "onnxruntime float32", threads
        onnxruntime = import_bench("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        for pool in ("intra_op", "inter_op"):
            options.add_session_config_entry(f"session.{pool}.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    def __call__(self, x: Tensor) -> list[Tensor]:
        """See `Rival`."""
        return [torch.from_numpy(array) for array in self._session.run(None, {self._input: x.numpy()})]


class Torch(Rival):
    """torch's eager mode, weights and pictures channels last.

    Its threads are those of the whole process: making one sets them.
    """

    def __init__(self, model: nn.Module | ExportedProgram, *, precision: str = "float32", threads: int = 1) -> None:
        self.name, self.threads, self._dtype = f"torch {precision}", threads, getattr(torch, precision)
        torch.set_num_threads(threads)
        with _quiet():
            module = copy.deepcopy(as_module(model))  # .to writes into the parameters
        self._module = module.to(dtype=self._dtype).to(memory_format=torch.channels_last)

    def __call__(self, x: Tensor) -> list[Tensor]:
        """See `Rival`."""
        with torch.inference_mode():
            x = x.to(dtype=self._dtype, memory_format=torch.channels_last)
            return [value.float() for value in pytree.tree_leaves(self._module(x))]


def compile_openvino(path: Path, *, precision: str | None, **settings: Any) -> Any:
    """Returns OpenVINO's compiled model of an ONNX file on the CPU.

    Args:
        path: the file.
        precision: of the inference; None sets nothing.
        settings: further properties, as OpenVINO calls them.
    """
    if precision is not None:
        settings["INFERENCE_PRECISION_HINT"] = _OPENVINO_PRECISION[precision]
    core = import_bench("openvino").Core()
    return core.compile_model(core.read_model(str(path)), "CPU", settings)


def onnx_file(name: str, model: nn.Module | ExportedProgram, example: Tensor, *, folder: Path = FOLDER) -> Path:
    """Returns the path of the network as an ONNX file, made the first time.

    Args:
        name: what the file's name begins with.
        model: the network, in evaluation mode.
        example: its input.
        folder: where the files are kept.
    """
    path = folder / f"{name.replace(':', '-')}-{_digest(model, example)}.onnx"
    if path.is_file():
        return path
    import_bench("onnxscript")
    folder.mkdir(parents=True, exist_ok=True)
    with _quiet():
        program = torch.onnx.export(model, (example,), dynamo=True, verbose=False)
    assert program is not None
    unfinished = path.with_suffix(".part")  # a stop while writing leaves no file that looks whole
    program.save(str(unfinished))
    return unfinished.rename(path)


def as_module(model: nn.Module | ExportedProgram) -> nn.Module:
    """Returns the network as a module that can be called."""
    if isinstance(model, ExportedProgram):
        with _quiet():
            return model.module()
    return model


def import_bench(name: str) -> Any:
    """Returns a module of the `bench` extra; raises MissingExtraError, saying what to install, where it is missing."""
    try:
        with warnings.catch_warnings():  # what these packages warn of in their own code is not ours to repair
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError(
            f"{name} is needed to measure against it and cannot be imported ({error}); "
            "install the bench extra: pip install '.[bench]'"
        ) from error


def _digest(model: nn.Module | ExportedProgram, example: Tensor) -> str:
    digest = hashlib.sha256(f"{torch.__version__} {tuple(example.shape)}".encode())
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor_bytes(tensor))
    return digest.hexdigest()[:12]


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns and logs about its own code."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
