"""ONNX models: opened, changed by the same verbs as networks of this library, and saved.

Needs the extra `solver_nas[onnx]`.
"""

from solver_nas.errors import ExtraError

try:
    import onnx as _onnx  # noqa: F401 - what everything here is built on
except ImportError as error:
    raise ExtraError("ONNX models need the package onnx: pip install 'solver_nas[onnx]'") from error

from solver_nas.calibrate import calibrate
from solver_nas.onnx.model import OnnxModel, load
from solver_nas.onnx.op import Op
from solver_nas.onnx.operator import operator, operators

__all__ = ["OnnxModel", "Op", "calibrate", "load", "operator", "operators"]
