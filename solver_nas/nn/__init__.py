"""Networks and layers in NumPy."""

from solver_nas.calibrate import calibrate
from solver_nas.magnitude import magnitude
from solver_nas.nn.activations import ACTIVATIONS, activation, relu
from solver_nas.nn.arithmetic import add, concat, multiply
from solver_nas.nn.attention import attend, attention
from solver_nas.nn.batch_norm import batch_norm
from solver_nas.nn.conv import conv
from solver_nas.nn.conv_transpose import conv_transpose
from solver_nas.nn.custom import absorb, immutable, invariant, stack
from solver_nas.nn.dense import dense
from solver_nas.nn.dropout import dropout
from solver_nas.nn.embedding import embedding
from solver_nas.nn.enlarge import pad, upsample
from solver_nas.nn.group_norm import group_norm, instance_norm
from solver_nas.nn.layer_norm import layer_norm, rms_norm
from solver_nas.nn.named import register
from solver_nas.nn.network import Network
from solver_nas.nn.observe import ActivationContribution
from solver_nas.nn.optimise import SGD, Adam
from solver_nas.nn.pooling import avg_pool, global_avg_pool, global_max_pool, max_pool
from solver_nas.nn.recurrent import bidirectional, gru, lstm, simple_rnn
from solver_nas.nn.scale import bias, position, scale
from solver_nas.nn.shapes import channel_shuffle, flatten, pixel_shuffle, reshape, transpose
from solver_nas.nn.slices import flip, split, take
from solver_nas.nn.softmax import softmax
from solver_nas.nn.store import load, save
from solver_nas.nn.train import fit
from solver_nas.nn.vertex import NetworkVertex
from solver_nas.observe import ActivationStatistics, Observations, every, observed
from solver_nas.state import Observer
from solver_nas.worth import (
    activation_times_outgoing,
    contribution,
    default_utility,
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
    "attend",
    "attention",
    "avg_pool",
    "batch_norm",
    "bias",
    "bidirectional",
    "calibrate",
    "channel_shuffle",
    "concat",
    "contribution",
    "conv",
    "conv_transpose",
    "default_utility",
    "dense",
    "dropout",
    "embedding",
    "every",
    "fit",
    "flatten",
    "flip",
    "global_avg_pool",
    "global_max_pool",
    "group_norm",
    "gru",
    "immutable",
    "instance_norm",
    "invariant",
    "layer_norm",
    "load",
    "lstm",
    "magnitude",
    "max_pool",
    "multiply",
    "observed",
    "pad",
    "pixel_shuffle",
    "position",
    "register",
    "relu",
    "reshape",
    "rms_norm",
    "save",
    "scale",
    "simple_rnn",
    "softmax",
    "split",
    "stack",
    "take",
    "transpose",
    "upsample",
]
