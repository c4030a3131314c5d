"""Small networks of our own, for patterns that the model libraries do not have."""

from __future__ import annotations

from benchmarks.architectures.model import Architecture, Input, image

_VISION = "benchmarks.architectures.own_vision"
_SEQUENCE = "benchmarks.architectures.own_sequence"
_STEPS = (Input((1, 20, 16)),)

_NETWORKS: tuple[tuple[str, str, tuple[Input, ...]], ...] = (
    ("unet", _VISION, image(64)),
    ("unet_bilinear", _VISION, image(64)),
    ("espcn", _VISION, image(48, 1)),
    ("fsrcnn", _VISION, image(32, 1)),
    ("autoencoder", _VISION, image(28, 1)),
    ("generator", _VISION, (Input((1, 64, 1, 1)),)),
    ("style_transfer", _VISION, image(64)),
    ("yolo", _VISION, image(128)),
    ("keyword_spotting", _VISION, (Input((1, 1, 49, 10)),)),
    ("face_embedding", _VISION, image(28)),
    ("key_points", _VISION, image(64)),
    ("pointnet", _VISION, (Input((1, 3, 128)),)),
    ("lstm", _SEQUENCE, _STEPS),
    ("bilstm", _SEQUENCE, _STEPS),
    ("gru", _SEQUENCE, _STEPS),
    ("bigru", _SEQUENCE, _STEPS),
    ("rnn", _SEQUENCE, _STEPS),
    ("streaming_lstm", _SEQUENCE, (Input((1, 1, 16)), Input((1, 1, 32)), Input((1, 1, 32)))),
    ("crnn", _SEQUENCE, (Input((1, 1, 32, 96)),)),
    ("tcn", _SEQUENCE, (Input((1, 8, 64)),)),
    ("voice_activity", _SEQUENCE, (Input((1, 1, 2048)),)),
    ("separator", _SEQUENCE, (Input((1, 1, 1024)),)),
    ("transformer_encoder", _SEQUENCE, (Input((1, 20, 32)),)),
    ("cross_attention", _SEQUENCE, (Input((1, 10, 32)), Input((1, 14, 32)))),
    ("text_cnn", _SEQUENCE, (Input((1, 40), 500),)),
    ("recommender", _SEQUENCE, (Input((4,), 100), Input((4,), 200))),
    ("mlp", _SEQUENCE, (Input((1, 12)),)),
)


def architectures() -> tuple[Architecture, ...]:
    """Return our own architectures."""
    return tuple(
        Architecture(name, "own", name, f"{module}:{name}", inputs)
        for name, module, inputs in _NETWORKS
    )
