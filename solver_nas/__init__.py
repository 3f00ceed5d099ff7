"""Change the architecture of trained networks: provably the best neurons stay."""

from solver_nas.api import delta_nin, delta_nout, delta_size, explain, plan_change
from solver_nas.change import Change, Plan
from solver_nas.nn.arithmetic import concat
from solver_nas.nn.custom import absorb, immutable, invariant, stack
from solver_nas.nn.network import Network
from solver_nas.nn.worth import default_utility
from solver_nas.requests import relaxed

__all__ = [
    "Change",
    "Network",
    "Plan",
    "absorb",
    "concat",
    "default_utility",
    "delta_nin",
    "delta_nout",
    "delta_size",
    "explain",
    "immutable",
    "invariant",
    "plan_change",
    "relaxed",
    "stack",
]
