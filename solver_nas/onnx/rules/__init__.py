"""How neurons pass through the operators of ONNX's standard domain, family by family."""

from solver_nas.onnx.rules import (
    attention as attention,
)
from solver_nas.onnx.rules import (
    contractions as contractions,
)
from solver_nas.onnx.rules import (
    control as control,
)
from solver_nas.onnx.rules import (
    elementwise as elementwise,
)
from solver_nas.onnx.rules import (
    indices as indices,
)
from solver_nas.onnx.rules import (
    layouts as layouts,
)
from solver_nas.onnx.rules import (
    normalisations as normalisations,
)
from solver_nas.onnx.rules import (
    quantised as quantised,
)
from solver_nas.onnx.rules import (
    recurrent as recurrent,
)
from solver_nas.onnx.rules import (
    reductions as reductions,
)
from solver_nas.onnx.rules import (
    sealed as sealed,
)
from solver_nas.onnx.rules import (
    segments as segments,
)
from solver_nas.onnx.rules import (
    windows as windows,
)
