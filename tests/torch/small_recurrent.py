"""Small models with recurrent layers."""

# mypy: disable-error-code="no-any-return, no-untyped-call"
# For mypy, a call of a module is Any, and some functions of torch are untyped.

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from tests.torch.cases import BATCH, Expectation, case, normal, tokens


class Recurrent(nn.Module):
    """Linear -> recurrent layers -> mean over time -> Linear."""

    def __init__(
        self, layer: Callable[..., nn.RNNBase], layers: int = 1, *, both: bool = False, projection: int = 0
    ) -> None:
        super().__init__()
        self.fc1 = nn.Linear(8, 12)
        extra = {"proj_size": projection} if projection else {}
        self.rnn = layer(12, 16, num_layers=layers, bidirectional=both, batch_first=True, **extra)
        self.fc2 = nn.Linear((projection or 16) * (2 if both else 1), 4)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.rnn(torch.relu(self.fc1(x)))
        return self.fc2(y.mean(dim=1))


class TextClassifier(nn.Module):
    """Time first, a state of zeros made by hand from int attributes, and the last hidden states as features."""

    def __init__(self, vocabulary: int = 30, dim: int = 12, hidden: int = 16) -> None:
        super().__init__()
        self.hidden = hidden
        self.embedding = nn.Embedding(vocabulary, dim)
        self.lstm = nn.LSTM(dim, hidden, num_layers=2)
        self.fc = nn.Linear(hidden, 4)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embedding(ids).transpose(0, 1)
        h0 = x.new_zeros(2, ids.size(0), self.hidden)
        _, (h, _) = self.lstm(x, (h0, h0.clone()))
        return self.fc(h[-1])


class LearnedState(nn.Module):
    """The first state is a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.h0 = nn.Parameter(torch.zeros(1, 1, 16))
        self.gru = nn.GRU(8, 16, batch_first=True)
        self.fc = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.gru(x, self.h0.repeat(1, x.size(0), 1))
        return self.fc(y)


class CellLoop(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(8, 12)
        self.cell = nn.LSTMCell(12, 16)
        self.fc2 = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.size(0), self.cell.hidden_size)
        c = torch.zeros_like(h)
        for step in x.unbind(dim=1):
            h, c = self.cell(torch.relu(self.fc1(step)), (h, c))
        return self.fc2(h)


class Seq2Seq(nn.Module):
    """The encoder's state is the decoder's first state: their hidden neurons are tied."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.LSTM(8, 16, batch_first=True)
        self.decoder = nn.LSTM(4, 16, batch_first=True)
        self.fc = nn.Linear(16, 4)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        _, state = self.encoder(source)
        y, _ = self.decoder(target, state)
        return self.fc(y)


class Packed(nn.Module):
    """Sequences of several lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(8, 12)
        self.gru = nn.GRU(12, 16, batch_first=True)
        self.fc2 = nn.Linear(16, 4)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(torch.relu(self.fc1(x)), lengths, batch_first=True, enforce_sorted=False)
        y, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=x.size(1))
        return self.fc2(y)


def _with_lengths() -> tuple[Tensor, Tensor]:
    (x,) = normal((6, 8))()
    return x, torch.tensor([4, 6][:BATCH])


RECURRENT = (
    case("gru", partial(Recurrent, nn.GRU), normal((6, 8))),
    case("lstm", partial(Recurrent, nn.LSTM), normal((6, 8))),
    case("lstm_2_layers", partial(Recurrent, nn.LSTM, 2), normal((6, 8))),
    case("lstm_bidirectional", partial(Recurrent, nn.LSTM, both=True), normal((6, 8))),
    case("lstm_2_layers_bidirectional", partial(Recurrent, nn.LSTM, 2, both=True), normal((6, 8))),
    case(
        "lstm_projection",
        partial(Recurrent, nn.LSTM, 2, projection=10),
        normal((6, 8)),
        expectation=Expectation.PINNED,
        note="hidden states of two widths",
    ),
    case("gru_2_layers_bidirectional", partial(Recurrent, nn.GRU, 2, both=True), normal((6, 8))),
    case("rnn_tanh", partial(Recurrent, nn.RNN), normal((6, 8))),
    case(
        "lstm_time_first_own_state", TextClassifier, tokens(6, 30), note="`self.hidden` must follow `lstm.hidden_size`"
    ),
    case("gru_learned_state", LearnedState, normal((6, 8))),
    case("lstm_cell_loop", CellLoop, normal((6, 8))),
    case("lstm_seq2seq", Seq2Seq, normal((6, 8), (5, 4))),
    case(
        "gru_packed",
        Packed,
        _with_lengths,
        expectation=Expectation.REFUSED,
        note="the steps to run are data; pinning the sizes around it is fine too",
    ),
)
