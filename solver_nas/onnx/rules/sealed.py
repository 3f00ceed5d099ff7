"""Operators through which no neurons can be followed, each with the reason that a report names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from solver_nas.onnx.operator import operator

if TYPE_CHECKING:
    from solver_nas.labels import Tensor
    from solver_nas.onnx.op import Op

_POSITIONS = "positions depend on data"
_SEQUENCE = "its elements are tensors of any shape"
_TEXT = "text has no neurons"
_SIGNAL = "what it computes depends on the length of an axis"
_LOSS = "its classes are numbers in another input"
_SOURCE = "what it makes has the shape that is written down"
_LENGTH = "sizes are numbers in its result"

#: Why, by operator.
REASONS = {
    **dict.fromkeys(
        (
            *("CenterCropPad", "Compress", "GatherElements", "GatherND", "MaxUnpool", "NonMaxSuppression", "NonZero"),
            *("OneHot", "Scatter", "ScatterElements", "ScatterND", "Unique", "Multinomial"),
        ),
        _POSITIONS,
    ),
    **dict.fromkeys(
        (
            *("ConcatFromSequence", "Optional", "OptionalGetElement", "OptionalHasElement", "SequenceAt"),
            *("SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert", "SequenceLength"),
            *("SequenceMap", "SplitToSequence"),
        ),
        _SEQUENCE,
    ),
    **dict.fromkeys(("RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit", "TfIdfVectorizer"), _TEXT),
    **dict.fromkeys(
        ("AffineGrid", "BlackmanWindow", "DFT", "HammingWindow", "HannWindow", "MelWeightMatrix", "STFT"), _SIGNAL
    ),
    **dict.fromkeys(("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"), _LOSS),
    **dict.fromkeys(("Constant", "RandomNormal", "RandomUniform", "Range"), _SOURCE),
    **dict.fromkeys(("Shape", "Size"), _LENGTH),
    "BitCast": "neurons may be cut into several numbers",
    "Col2Im": "channels and window are one axis",
    "Det": "rows and columns of a matrix belong together",
    "EyeLike": "what it makes depends on its place",
    "ImageDecoder": "bytes of a file have no neurons",
    "LinearAttention": "heads and states are one axis",
}


@operator(*REASONS, note="pinned: no neurons can be followed through it")
def _sealed(op: Op) -> Tensor:
    raise op.unsupported(REASONS[op.operator])
