"""Networks and layers in NumPy."""

from solver_nas.nn.activations import ACTIVATIONS, activation, relu
from solver_nas.nn.arithmetic import add, concat, multiply
from solver_nas.nn.custom import absorb, immutable, invariant, stack
from solver_nas.nn.dense import dense
from solver_nas.nn.network import Network, NetworkVertex
from solver_nas.nn.observe import (
    ActivationContribution,
    ActivationStatistics,
    Observations,
    Observer,
    every,
    observed,
)
from solver_nas.nn.optimise import SGD, Adam
from solver_nas.nn.train import calibrate, fit
from solver_nas.nn.worth import (
    activation_times_outgoing,
    contribution,
    default_utility,
    magnitude,
)

__all__ = [
    "ACTIVATIONS",
    "SGD",
    "ActivationContribution",
    "ActivationStatistics",
    "Adam",
    "Network",
    "NetworkVertex",
    "Observations",
    "Observer",
    "absorb",
    "activation",
    "activation_times_outgoing",
    "add",
    "calibrate",
    "concat",
    "contribution",
    "default_utility",
    "dense",
    "every",
    "fit",
    "immutable",
    "invariant",
    "magnitude",
    "multiply",
    "observed",
    "relu",
    "stack",
]
