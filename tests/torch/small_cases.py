"""All small models that the PyTorch front end is judged with."""

from __future__ import annotations

from tests.torch.cases import Case
from tests.torch.small_attention import ATTENTION
from tests.torch.small_guards import GUARDS
from tests.torch.small_joints import JOINTS
from tests.torch.small_norms import NORMS
from tests.torch.small_parameters import PARAMETERS
from tests.torch.small_recurrent import RECURRENT
from tests.torch.small_shapes import SHAPES

CASES: tuple[Case, ...] = (*JOINTS, *ATTENTION, *RECURRENT, *PARAMETERS, *NORMS, *SHAPES, *GUARDS)

#: The sixteen on which the peers were measured.
SIXTEEN = (
    "mask_column",
    "pixel_shuffle",
    "concat_self",
    "linear_view_conv_transpose",
    "c2f",
    "gru",
    "lstm",
    "depthwise_multiplier",
    "squeeze_excite",
    "channel_shuffle",
    "vit_attention",
    "grouped_query",
    "tied_embedding",
    "module_twice",
    "group_norm",
    "rms_norm",
)
