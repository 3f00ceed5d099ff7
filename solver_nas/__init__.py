"""Change the architecture of trained networks: provably the best neurons stay."""

from solver_nas import limits, strategies, utilities
from solver_nas.api import delta_nin, delta_nout, delta_size, explain, plan_change
from solver_nas.calibrate import Calibration, calibrate
from solver_nas.change import Change, Plan
from solver_nas.edit_plan import EditPlan
from solver_nas.fit import diminishing, grow, shrink
from solver_nas.nn.arithmetic import concat
from solver_nas.nn.custom import absorb, immutable, invariant, stack
from solver_nas.nn.network import Network
from solver_nas.normalise import normalised
from solver_nas.plan_file import load_plan, save_plan
from solver_nas.queries import Spread, affected_by
from solver_nas.requests import relaxed
from solver_nas.sensitivity import measured
from solver_nas.structure import (
    change_activation,
    change_kernel_size,
    create_edge,
    insert,
    remove,
    remove_edge,
    replace,
)
from solver_nas.timing import measure_latency
from solver_nas.trade import TradeOff, trade_off
from solver_nas.worth import default_utility

__all__ = [
    "Calibration",
    "Change",
    "EditPlan",
    "Network",
    "Plan",
    "Spread",
    "TradeOff",
    "absorb",
    "affected_by",
    "calibrate",
    "change_activation",
    "change_kernel_size",
    "concat",
    "create_edge",
    "default_utility",
    "delta_nin",
    "delta_nout",
    "delta_size",
    "diminishing",
    "explain",
    "grow",
    "immutable",
    "insert",
    "invariant",
    "limits",
    "load_plan",
    "measure_latency",
    "measured",
    "normalised",
    "plan_change",
    "relaxed",
    "remove",
    "remove_edge",
    "replace",
    "save_plan",
    "shrink",
    "stack",
    "strategies",
    "trade_off",
    "utilities",
]


def __dir__() -> list[str]:
    """What is meant to be used from here, for completion."""
    return [*__all__, "nn", "errors", "mutation"]
