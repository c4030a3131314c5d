"""timm's families: one small variant of each module, and more where a module holds several."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from benchmarks.architectures.model import Architecture, image
from benchmarks.architectures.torchvision_models import torchvision

if TYPE_CHECKING:
    import torch

# The module in timm.models, a variant of it, the image size.
_MODELS = """
byoanet halonet_h1 256
byoanet eca_botnext26ts_256 256
byoanet lambda_resnet26t 256
byobnet mobileone_s0 160
byobnet repvgg_a0 160
byobnet gernet_s 160
cait cait_xxs24_224 224
coat coat_lite_tiny 224
coat coat_tiny 224
convit convit_tiny 224
convnext convnextv2_atto 160
convnext convnext_zepto_rms 160
cpubone cpubone_nano 160
crossvit crossvit_9_240 240
csatv2 csatv2 256
cspnet cs3darknet_focus_s 192
cspnext cspnext_tiny 160
davit davit_tiny 224
deit deit_tiny_distilled_patch16_224 224
densenet densenetblur121d 160
dla dla46_c 160
dpn dpn48b 160
edgenext edgenext_xx_small 256
efficientformer efficientformer_l1 224
efficientformer_v2 efficientformerv2_s0 224
efficientnet mobilenetv2_035 160
efficientnet mixnet_s 160
efficientnet tinynet_e 106
efficientnet efficientnet_lite0 160
efficientvim efficientvim_m1 224
efficientvit_mit efficientvit_b0 224
efficientvit_msra efficientvit_m0 224
eva eva02_tiny_patch14_224 224
fasternet fasternet_t0 160
fastvit fastvit_t8 256
focalnet focalnet_tiny_srf 224
gcvit gcvit_xxtiny 224
ghostnet ghostnet_050 160
ghostnet ghostnetv2_100 160
hardcorenas hardcorenas_a 160
hgnet hgnetv2_b0 160
hiera hiera_tiny_224 224
hieradet_sam2 hieradet_small 256
hrnet hrnet_w18_small 160
iformer iformer_t 224
inception_next inception_next_atto 160
inception_resnet_v2 inception_resnet_v2 160
inception_v4 inception_v4 160
lcnetv2 lcnetv2_small 160
levit levit_128s 224
lowformer lowformer_b0 224
mambaout mambaout_femto 160
maxxvit coatnet_pico_rw_224 224
maxxvit maxvit_pico_rw_256 256
metaformer poolformerv2_s12 160
metaformer caformer_s18 160
metaformer convformer_s18 160
mlp_mixer gmlp_ti16_224 224
mlp_mixer resmlp_12_224 224
mlp_mixer mixer_s32_224 224
mobilenetv3 mobilenetv3_small_050 160
mobilenetv3 lcnet_050 160
mobilenetv3 mobilenetv4_conv_small 160
mobilenetv3 mobilenetv4_hybrid_medium 160
mobilevit mobilevit_s 256
mobilevit mobilevitv2_050 256
mvitv2 mvitv2_tiny 224
nest nest_tiny 224
nextvit nextvit_small 224
nfnet nf_regnet_b0 160
nfnet eca_nfnet_l0 160
pit pit_ti_224 224
pvt_v2 pvt_v2_b0 224
rdnet rdnet_tiny 160
regnet regnetz_005 160
repghost repghostnet_050 160
repvit repvit_m0_9 160
res2net res2net50_14w_8s 160
resnest resnest14d 160
resnet resnet10t 160
resnet resnetblur18 160
resnetv2 resnetv2_18 160
rexnet rexnet_100 160
selecsls selecsls42b 160
senet legacy_seresnet18 160
sequencer sequencer2d_s 224
shvit shvit_s1 224
sknet skresnet18 160
starnet starnet_s1 160
swiftformer swiftformer_xs 224
swin_transformer swin_tiny_patch4_window7_224 224
swin_transformer_v2 swinv2_tiny_window8_256 256
swin_transformer_v2_cr swinv2_cr_tiny_224 224
tiny_vit tiny_vit_5m_224 224
tnt tnt_s_patch16_224 224
tresnet tresnet_m 160
twins twins_pcpvt_small 224
twins twins_svt_small 224
visformer visformer_tiny 224
vision_transformer vit_tiny_patch16_224 224
vision_transformer_hybrid vit_tiny_r_s16_p8_224 224
vision_transformer_relpos vit_srelpos_small_patch16_224 224
vitamin vitamin_small_224 224
volo volo_d1_224 224
vovnet ese_vovnet19b_dw 160
xception legacy_xception 160
xception_aligned xception41p 160
xcit xcit_nano_12_p16_224 224
nasnet nasnetalarge 160
pnasnet pnasnet5large 160
"""

# Families whose smallest variant is large: the same architecture with fewer, narrower layers.
_NARROW = {"embed_dim": 192, "depth": 4, "num_heads": 3}
_REDUCED: tuple[tuple[str, str, int, dict[str, Any]], ...] = (
    ("beit", "beit_base_patch16_224", 224, _NARROW),
    ("naflexvit", "naflexvit_base_patch16_gap", 224, _NARROW),
    ("vision_transformer_sam", "samvit_base_patch16_224", 224, _NARROW),
)


def architectures() -> tuple[Architecture, ...]:
    """Return timm's architectures."""
    rows: list[tuple[str, str, int, dict[str, Any]]] = [
        (module, name, int(size), {})
        for module, name, size in (line.split() for line in _MODELS.split("\n") if line)
    ]
    # Its 32 layers amplify rounding: with random weights, torch in single precision is only 57 dB
    # away from torch in double precision.
    convmixer = Architecture(
        "convmixer_768_8", "timm", "convmixer/convmixer_768_32", f"{__name__}:convmixer", image(160)
    )
    return convmixer, *(
        Architecture(
            name,
            "timm",
            f"{module}/{name}",
            f"{__name__}:build",
            image(size),
            {"name": name, **extra},
        )
        for module, name, size, extra in (*rows, *_REDUCED)
    )


def convmixer() -> torch.nn.Module:
    """Build a ConvMixer of 8 layers."""
    import torch

    torchvision()
    family = importlib.import_module("timm.models.convmixer")
    module: torch.nn.Module = family.ConvMixer(
        dim=768, depth=8, kernel_size=7, patch_size=7, act_layer=torch.nn.ReLU
    )
    return module


def build(name: str, **arguments: Any) -> torch.nn.Module:
    """Build a timm model with random weights."""
    torchvision()
    timm = importlib.import_module("timm")
    module: torch.nn.Module = timm.create_model(name, pretrained=False, **arguments)
    return module
