"""Architectures of Hugging Face's transformers, from small configurations."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from benchmarks.architectures.model import Architecture, Input, image
from benchmarks.architectures.torchvision_models import torchvision

if TYPE_CHECKING:
    import torch

_VOCABULARY, _TOKENS = 1000, 64
_TEXT = (Input((1, _TOKENS), _VOCABULARY), Input((1, _TOKENS), 2))
_TOKEN = (Input((1, _TOKENS), _VOCABULARY),)
_WAVE = (Input((1, 8000)),)

_SMALL: dict[str, Any] = {
    "vocab_size": _VOCABULARY,
    "hidden_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 256,
}
_VISION: dict[str, Any] = {
    "hidden_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "intermediate_size": 192,
    "image_size": 96,
    "patch_size": 16,
}
_DECODER: dict[str, Any] = {**_SMALL, "num_key_value_heads": 2, "use_cache": False}
_SPEECH: dict[str, Any] = {
    **_SMALL,
    "conv_dim": (64,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "mask_time_prob": 0.0,
    "mask_feature_prob": 0.0,
}

_Row = tuple[str, str, str, str, tuple[Input, ...], dict[str, Any]]

# Name, class of the model, wrapper, field of its result, inputs, configuration.
_MODELS: tuple[_Row, ...] = (
    ("minilm", "BertModel", "TextModel", "last_hidden_state", _TEXT,
     {**_SMALL, "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12,
      "intermediate_size": 1536}),
    ("bert_classifier", "BertForSequenceClassification", "TextModel", "logits", _TEXT, _SMALL),
    ("distilbert", "DistilBertModel", "TextModel", "last_hidden_state", _TEXT,
     {"vocab_size": _VOCABULARY, "dim": 128, "n_layers": 3, "n_heads": 4, "hidden_dim": 256}),
    ("albert", "AlbertModel", "TextModel", "last_hidden_state", _TEXT,
     {**_SMALL, "embedding_size": 64}),
    ("mobilebert", "MobileBertModel", "TextModel", "last_hidden_state", _TEXT,
     {"vocab_size": _VOCABULARY, "num_hidden_layers": 4}),
    ("roberta", "RobertaModel", "TextModel", "last_hidden_state", _TEXT, _SMALL),
    ("electra", "ElectraModel", "TextModel", "last_hidden_state", _TEXT,
     {**_SMALL, "embedding_size": 64}),
    ("mpnet", "MPNetModel", "TextModel", "last_hidden_state", _TEXT, _SMALL),
    ("squeezebert", "SqueezeBertModel", "TextModel", "last_hidden_state", _TEXT,
     {**_SMALL, "embedding_size": 128}),
    ("deberta_v2", "DebertaV2Model", "TextModel", "last_hidden_state", _TEXT,
     {**_SMALL, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]}),
    ("modernbert", "ModernBertModel", "TextModel", "last_hidden_state", _TEXT,
     {**_SMALL, "pad_token_id": 0, "attn_implementation": "eager"}),
    ("convbert", "ConvBertModel", "TextModel", "last_hidden_state", _TEXT,
     {**_SMALL, "embedding_size": 128}),
    ("fnet", "FNetModel", "TokenModel", "last_hidden_state", _TOKEN, _SMALL),
    ("t5_encoder", "T5EncoderModel", "TextModel", "last_hidden_state", _TEXT,
     {"vocab_size": _VOCABULARY, "d_model": 128, "d_kv": 32, "d_ff": 256, "num_layers": 3,
      "num_heads": 4}),
    ("gpt2", "GPT2Model", "TokenModel", "last_hidden_state", _TOKEN,
     {"vocab_size": _VOCABULARY, "n_embd": 128, "n_layer": 3, "n_head": 4, "use_cache": False}),
    ("llama", "LlamaModel", "TokenModel", "last_hidden_state", _TOKEN, _DECODER),
    ("qwen3", "Qwen3Model", "TokenModel", "last_hidden_state", _TOKEN,
     {**_DECODER, "head_dim": 32}),
    ("clip_text", "CLIPTextModel", "TokenModel", "last_hidden_state", _TOKEN,
     {**_SMALL, "eos_token_id": 2}),
    ("clip_vision", "CLIPVisionModel", "ImageModel", "pooler_output", image(96), _VISION),
    ("siglip_vision", "SiglipVisionModel", "ImageModel", "pooler_output", image(96), _VISION),
    ("vit", "ViTForImageClassification", "ImageModel", "logits", image(96), _VISION),
    ("deit", "DeiTModel", "ImageModel", "last_hidden_state", image(96), _VISION),
    ("dinov2", "Dinov2Model", "ImageModel", "last_hidden_state", image(96), _VISION),
    ("yolos", "YolosForObjectDetection", "ImageModel", "pred_boxes", image(96),
     {**_VISION, "image_size": [96, 96], "num_detection_tokens": 10}),
    ("segformer", "SegformerForSemanticSegmentation", "ImageModel", "logits", image(128),
     {"depths": [1, 1, 1, 1], "hidden_sizes": [16, 32, 64, 96],
      "num_attention_heads": [1, 2, 2, 3], "decoder_hidden_size": 64}),
    ("glpn", "GLPNForDepthEstimation", "ImageModel", "predicted_depth", image(128),
     {"depths": [1, 1, 1, 1], "hidden_sizes": [16, 32, 64, 96],
      "num_attention_heads": [1, 2, 2, 3], "decoder_hidden_size": 32}),
    ("swin2sr", "Swin2SRForImageSuperResolution", "ImageModel", "reconstruction", image(48),
     {"image_size": 48, "embed_dim": 36, "depths": [2, 2], "num_heads": [2, 2],
      "window_size": 8, "upscale": 2, "upsampler": "pixelshuffledirect"}),
    ("whisper_encoder", "WhisperEncoder", "AudioModel", "last_hidden_state",
     (Input((1, 80, 400)),),
     {"vocab_size": _VOCABULARY, "d_model": 128, "encoder_layers": 3,
      "encoder_attention_heads": 4, "encoder_ffn_dim": 256, "max_source_positions": 200}),
    ("wav2vec2", "Wav2Vec2ForCTC", "AudioModel", "logits", _WAVE, {**_SPEECH, "vocab_size": 32}),
    ("hubert", "HubertModel", "AudioModel", "last_hidden_state", _WAVE, _SPEECH),
    ("wavlm", "WavLMModel", "AudioModel", "last_hidden_state", _WAVE, _SPEECH),
    ("moonshine_encoder", "MoonshineEncoder", "AudioModel", "last_hidden_state", _WAVE,
     {"vocab_size": _VOCABULARY, "hidden_size": 128, "intermediate_size": 256,
      "encoder_num_hidden_layers": 3, "encoder_num_attention_heads": 4,
      "encoder_num_key_value_heads": 4}),
    ("audio_spectrogram", "ASTModel", "AudioModel", "pooler_output", (Input((1, 128, 64)),),
     {**{key: value for key, value in _VISION.items() if key != "image_size"},
      "max_length": 128, "num_mel_bins": 64}),
    ("patchtst", "PatchTSTModel", "AudioModel", "last_hidden_state", (Input((1, 64, 4)),),
     {"num_input_channels": 4, "context_length": 64, "patch_length": 8, "patch_stride": 8,
      "d_model": 64, "num_attention_heads": 4, "num_hidden_layers": 2, "ffn_dim": 128}),
)  # fmt: skip


def architectures() -> tuple[Architecture, ...]:
    """Return the architectures of transformers."""
    return tuple(
        Architecture(
            f"hf_{name}",
            "transformers",
            name,
            f"{__name__}:build",
            inputs,
            {"model": model, "wrapper": wrapper, "field": field, "configuration": configuration},
        )
        for name, model, wrapper, field, inputs, configuration in _MODELS
    )


def build(model: str, wrapper: str, field: str, configuration: dict[str, Any]) -> torch.nn.Module:
    """Build a model of transformers with random weights."""
    from benchmarks.architectures import wrappers

    torchvision()
    transformers = importlib.import_module("transformers")
    kind = getattr(transformers, model, None) or _find(model)
    settings = dict(configuration)
    attention = settings.pop("attn_implementation", None)
    config = kind.config_class(**settings)
    if attention:
        config._attn_implementation = attention
    module: torch.nn.Module = getattr(wrappers, wrapper)(kind(config), field)
    return module


def _find(model: str) -> Any:
    """Return a class that is not exported at the top, as encoders."""
    family = model.removesuffix("Encoder").lower()
    module = importlib.import_module(f"transformers.models.{family}.modeling_{family}")
    return getattr(module, model)
