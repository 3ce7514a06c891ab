"""The native executor: a plan compiled for the native engine, and what runs it."""

from saccade.stream.native.compile import why_unfit
from saccade.stream.native.executor import NativeExecutor
from saccade.stream.native.forms import NativeForms, native_forms

__all__ = ["NativeExecutor", "NativeForms", "native_forms", "why_unfit"]
