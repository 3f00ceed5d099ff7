"""PyTorch modules: traced, changed by the same verbs as networks of this library, in place or as a module of their own.

Needs the extra `solver_nas[torch]`.
"""

from solver_nas.errors import ExtraError

try:
    import torch as _torch  # noqa: F401 - what everything here is built on
except ImportError as error:
    raise ExtraError("PyTorch modules need the package torch: pip install 'solver_nas[torch]'") from error

from solver_nas.torch.huggingface import fit_config, loadable
from solver_nas.torch.model import TorchModel
from solver_nas.torch.op import Op
from solver_nas.torch.operator import operator, operators
from solver_nas.torch.store import load, save
from solver_nas.torch.tracing import trace

__all__ = ["Op", "TorchModel", "fit_config", "load", "loadable", "operator", "operators", "save", "trace"]
