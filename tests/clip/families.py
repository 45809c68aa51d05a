"""A small random model of every family of towers that open_clip builds, each as a model config."""

from timm import create_model
from timm.models import register_model
from timm.models.swin_transformer import SwinTransformer

from .conftest import CONFIG, RESNET, config

TEXT = CONFIG["text_cfg"]
SIGLIP_TEXT = TEXT | {"no_causal_mask": True, "proj_bias": True, "pool_type": "last"}
COCA = {
    "embed_dim": 32,
    "custom_text": True,
    "vision_cfg": CONFIG["vision_cfg"]
    | {"attentional_pool": True, "attn_pooler_queries": 5, "attn_pooler_heads": 2, "output_tokens": True},
    "text_cfg": TEXT | {"embed_cls": True, "output_tokens": True},
    "multimodal_cfg": {"width": 32, "context_length": 12, "heads": 2, "layers": 1, "vocab_size": 49408},
}


@register_model
def tiny_swin(pretrained=False, **settings):
    """With feature maps `[n, h, w, d]`."""
    swin = SwinTransformer(32, 4, embed_dim=12, depths=(1, 1), num_heads=(1, 2), window_size=4)
    swin.default_cfg = {}
    return swin


@register_model
def tiny_resnet(pretrained=False, **settings):
    """Timm's small test model, with what open_clip asks of one whose attention pool it is to make."""
    resnet = create_model("test_resnet", channels=(16, 16, 16, 64), **settings)
    resnet.default_cfg = {"pool_size": (5, 5)}
    return resnet


def timm(name, pool, proj="linear", size=160, **more):
    vision = {"timm_model_name": name, "image_size": size, "timm_pool": pool, "timm_proj": proj}
    return CONFIG | {"vision_cfg": vision} | more


def pooling(**vision):
    return config(attn_pooler_queries=5, attn_pooler_heads=2, **vision) | {"embed_dim": 64}


FAMILIES = {
    "vit": CONFIG,
    "vit, average": config(pool_type="avg"),
    "vit, average and then layer norm": config(pool_type="avg", final_ln_after_pool=True),
    "vit, attention pooling": pooling(attentional_pool=True),
    "vit, attention pooling, average": pooling(attentional_pool=True, pool_type="avg"),
    "vit, attention pooling in parallel": pooling(attentional_pool="parallel"),
    "vit, attention pooling in cascade": pooling(attentional_pool="cascade"),
    "siglip": timm(
        "test_vit3", "map", "none", custom_text=True, text_cfg=SIGLIP_TEXT, init_logit_bias=-10, embed_dim=96
    ),
    "coca": COCA,
    "timm vit, class token": timm("test_vit", "token"),
    "timm vit, register, average": timm("test_vit2", "avg"),
    "convnext": timm("test_convnext", ""),
    "timm resnet, attention pooling": timm("tiny_resnet", "abs_attn", "", embed_dim=64),
    "timm resnet, rotary attention pooling": timm("tiny_resnet", "rot_attn", "", embed_dim=64),
    "timm vit, relative positions": timm("test_vit_relpos", "avg"),
    "swin": timm("tiny_swin", "avg", size=32),
    "resnet": CONFIG | {"vision_cfg": RESNET},
}
