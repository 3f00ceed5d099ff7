"""Operations through which no neurons can be followed, each with the reason that a report names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from solver_nas.torch.operator import operator
from solver_nas.torch.sealing import SEALED

if TYPE_CHECKING:
    from solver_nas.labels import Tensor
    from solver_nas.torch.op import Op

_POSITIONS = "positions depend on data"
_SIGNAL = "what it computes depends on the length of an axis"
_MATRIX = "rows and columns of a matrix belong together"
_LOSS = "its classes are numbers in another input"

#: Why, by operator.
REASONS = {
    **dict.fromkeys(
        (
            *("masked_select", "masked_scatter", "nonzero", "one_hot", "scatter", "scatter_add", "scatter_reduce"),
            *("index_fill", "unique_consecutive", "_unique2", "multinomial", "searchsorted", "bucketize"),
            *("take", "put", "max_unpool2d", "max_unpool3d", "torchvision::nms", "isin", "bincount", "histc"),
        ),
        _POSITIONS,
    ),
    **dict.fromkeys(
        (
            "fft_fft",
            "fft_ifft",
            "fft_rfft",
            "fft_irfft",
            "fft_fft2",
            "fft_ifft2",
            "fft_rfft2",
            "fft_irfft2",
            "stft",
            "istft",
        ),
        _SIGNAL,
    ),
    **dict.fromkeys(
        (
            *(
                "linalg_inv",
                "linalg_inv_ex",
                "linalg_svd",
                "linalg_qr",
                "linalg_cholesky",
                "linalg_eigh",
                "linalg_solve",
            ),
            *(
                "linalg_det",
                "linalg_matrix_exp",
                "cholesky",
                "det",
                "logdet",
                "trace",
                "diagonal",
                "diag_embed",
                "cdist",
            ),
            *("linalg_matrix_norm", "matrix_exp", "kron"),
        ),
        _MATRIX,
    ),
    **dict.fromkeys(("nll_loss", "nll_loss2d", "cross_entropy_loss", "ctc_loss"), _LOSS),
    "view_as_complex": "pairs of numbers become one",
    "view_as_real": "numbers become pairs",
    "complex": "pairs of numbers become one",
    "real": "numbers become pairs",
    "as_strided": "it reads memory, whatever stands there",
}


@operator(SEALED, note="pinned: a submodule that is not looked into")
def _opaque(op: Op) -> Tensor:
    raise op.unsupported(f"submodule {op.extra('module')!r} is opaque")


@operator(*REASONS, note="pinned: no neurons can be followed through it")
def _sealed(op: Op) -> Tensor:
    raise op.unsupported(REASONS[op.operator])
