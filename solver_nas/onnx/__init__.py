"""ONNX models: opened, changed by the same verbs as networks of this library, and saved.

Needs the extra `solver_nas[onnx]`.
"""

from solver_nas.onnx.model import OnnxModel, load
from solver_nas.onnx.operator import operators

__all__ = ["OnnxModel", "load", "operators"]
