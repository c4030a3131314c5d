"""Small recurrent, convolutional and attentive networks over sequences."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Recurrent(nn.Module):
    """A recurrent layer with a linear head on the last step."""

    def __init__(self, layer: nn.Module, features: int) -> None:
        super().__init__()
        self.layer = layer
        self.head = nn.Linear(features, 8)

    def forward(self, sequence: Tensor) -> Tensor:
        """Return scores of ``[N, T, 16]``."""
        scores: Tensor = self.head(self.layer(sequence)[0][:, -1])
        return scores


def lstm() -> nn.Module:
    """Return a two-layer LSTM."""
    return Recurrent(nn.LSTM(16, 32, num_layers=2, batch_first=True), 32)


def bilstm() -> nn.Module:
    """Return a bidirectional LSTM."""
    return Recurrent(nn.LSTM(16, 32, bidirectional=True, batch_first=True), 64)


def gru() -> nn.Module:
    """Return a GRU."""
    return Recurrent(nn.GRU(16, 32, batch_first=True), 32)


def bigru() -> nn.Module:
    """Return a bidirectional GRU."""
    return Recurrent(nn.GRU(16, 32, bidirectional=True, batch_first=True), 64)


def rnn() -> nn.Module:
    """Return an Elman network."""
    return Recurrent(nn.RNN(16, 32, batch_first=True), 32)


class Streaming(nn.Module):
    """An LSTM that takes its state and returns it, one step at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LSTM(16, 32)
        self.head = nn.Linear(32, 8)

    def forward(self, frame: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return scores and the next state."""
        output, (hidden, cell) = self.layer(frame, (hidden, cell))
        return self.head(output), hidden, cell


def streaming_lstm() -> nn.Module:
    """Return the LSTM with explicit state."""
    return Streaming()


class Crnn(nn.Module):
    """CRNN for text lines: convolutions, height squeezed, BiLSTM, log-probabilities for CTC."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs, pool in ((1, 16, (2, 2)), (16, 32, (2, 2)), (32, 32, (2, 1))):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs)]
            layers += [nn.ReLU(), nn.MaxPool2d(pool)]
        self.body = nn.Sequential(*layers, nn.Conv2d(32, 32, (4, 1)))
        self.sequence = nn.LSTM(32, 32, bidirectional=True)
        self.head = nn.Linear(64, 20)

    def forward(self, line: Tensor) -> Tensor:
        """Return ``[T, N, characters]`` of ``[N, 1, 32, W]``."""
        steps = self.body(line).squeeze(2).permute(2, 0, 1)
        return functional.log_softmax(self.head(self.sequence(steps)[0]), 2)


def crnn() -> nn.Module:
    """Return CRNN."""
    return Crnn()


class Causal(nn.Module):
    """One block of a temporal convolutional network."""

    def __init__(self, inputs: int, outputs: int, dilation: int) -> None:
        super().__init__()
        self.padding = 2 * dilation
        self.conv = nn.Conv1d(inputs, outputs, 3, dilation=dilation)
        self.norm = nn.BatchNorm1d(outputs)
        self.skip = nn.Conv1d(inputs, outputs, 1)

    def forward(self, sequence: Tensor) -> Tensor:
        """Return features of the same length."""
        inner = self.conv(functional.pad(sequence, (self.padding, 0)))
        outer: Tensor = functional.relu(self.norm(inner)) + self.skip(sequence)
        return outer


def tcn() -> nn.Module:
    """Return a temporal convolutional network."""
    return nn.Sequential(
        Causal(8, 16, 1), Causal(16, 16, 2), Causal(16, 16, 4), nn.Conv1d(16, 4, 1)
    )


def voice_activity() -> nn.Module:
    """Return a voice-activity detector over a waveform."""
    return nn.Sequential(
        nn.Conv1d(1, 16, 64, 32, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.MaxPool1d(2),
        nn.Conv1d(16, 32, 5, padding=2, groups=4), nn.BatchNorm1d(32), nn.Hardswish(),
        nn.AvgPool1d(2), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(32, 1), nn.Sigmoid(),
    )  # fmt: skip


class Separator(nn.Module):
    """Conv-TasNet-like separation: encoder, mask, transposed convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Conv1d(1, 32, 16, 8, bias=False)
        self.mask = nn.Sequential(
            nn.GroupNorm(1, 32), nn.Conv1d(32, 32, 1), nn.PReLU(),
            nn.Conv1d(32, 32, 3, padding=2, dilation=2, groups=32), nn.Conv1d(32, 64, 1),
        )  # fmt: skip
        self.decoder = nn.ConvTranspose1d(32, 1, 16, 8, bias=False)

    def forward(self, wave: Tensor) -> Tensor:
        """Return two sources ``[N, 2, T]``."""
        encoded = self.encoder(wave).relu()
        masks = self.mask(encoded).unflatten(1, (2, 32)).sigmoid()
        sources = (encoded[:, None] * masks).flatten(0, 1)
        separated: Tensor = self.decoder(sources).unflatten(0, (-1, 2)).squeeze(2)
        return separated


def separator() -> nn.Module:
    """Return the source separator."""
    return Separator()


def transformer_encoder() -> nn.Module:
    """Return PyTorch's own transformer encoder."""
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, activation="gelu")
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


class Attention(nn.Module):
    """Multi-head attention between two sequences, with a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)
        self.norm = nn.LayerNorm(32)

    def forward(self, query: Tensor, memory: Tensor) -> Tensor:
        """Return ``[N, T, 32]``."""
        mask = torch.ones(query.shape[1], memory.shape[1], dtype=torch.bool).triu(1)
        mixed: Tensor = self.norm(query + self.attention(query, memory, memory, attn_mask=mask)[0])
        return mixed


def cross_attention() -> nn.Module:
    """Return attention between two sequences."""
    return Attention()


class TextCnn(nn.Module):
    """Embedding, convolutions of several widths, maximum over time."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(500, 32)
        self.convs = nn.ModuleList(nn.Conv1d(32, 16, width) for width in (3, 4, 5))
        self.head = nn.Linear(48, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return scores of ``[N, T]`` tokens."""
        embedded = self.embedding(tokens).transpose(1, 2)
        found = [conv(embedded).relu().amax(2) for conv in self.convs]
        scores: Tensor = self.head(torch.cat(found, 1))
        return scores


def text_cnn() -> nn.Module:
    """Return the text classifier."""
    return TextCnn()


class Recommender(nn.Module):
    """Embeddings of two numbers and a wide-and-deep head."""

    def __init__(self) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(100, 16), nn.Embedding(200, 16)
        self.deep = nn.Sequential(nn.Linear(32, 32), nn.ELU(), nn.Linear(32, 1))

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        """Return a score for ``[N]`` pairs."""
        one, two = self.users(user), self.items(item)
        score: Tensor = self.deep(torch.cat([one, two], 1))[:, 0] + (one * two).sum(1)
        return score


def recommender() -> nn.Module:
    """Return the recommender."""
    return Recommender()


def mlp() -> nn.Module:
    """Return a perceptron for sensor data, with several activations."""
    return nn.Sequential(
        nn.Linear(12, 32), nn.LayerNorm(32), nn.SELU(), nn.Linear(32, 32), nn.Softplus(),
        nn.Linear(32, 32), nn.Mish(), nn.Linear(32, 6), nn.Softmax(1),
    )  # fmt: skip
