import pytest
import torch

from lightning_sae.attribution.edges.held import HeldMap
from lightning_sae.clip import HookPoint, Segment, TextClip, capture_context, make_tail
from lightning_sae.clip.stages import stages_of

HOLDS = [
    "vit",
    "vit, average",
    "vit, average and then layer norm",
    "vit, attention pooling",
    "vit, attention pooling in parallel",
    "siglip",
    "timm vit, class token",
    "convnext",
    "resnet",
]


@pytest.mark.parametrize("part", ["segment", "tail"])
@pytest.mark.parametrize("name", HOLDS)
def test_a_held_tower_is_affine_and_agrees_where_it_was_held(towers, name, part):
    """`<gradient, x> = value - what a zero input gives`, the latter by running the held map again."""
    clip = towers(name)
    paths = stages_of(clip).paths
    rules = ["patch"] if name in ("siglip", "convnext", "resnet") else ["cls", "patch"]
    pixels = torch.randn(2, 3, *clip.image_size, generator=torch.Generator().manual_seed(0))
    for rule in rules:
        first, last = HookPoint(paths[0], rule), HookPoint(paths[-1], rule)
        tail = make_tail(clip, first)
        run = Segment(tail, last) if part == "segment" else tail
        x, context = capture_context(clip, first, tail, pixels)
        x.requires_grad_()
        held = HeldMap(run, (x, context))
        torch.testing.assert_close(held.value, run(x, context))
        direction = torch.randn_like(held.value)
        (g,) = torch.autograd.grad((held.value * direction).sum(), x)
        x = x.detach()
        change = ((held.value - held(torch.zeros_like(x), context)) * direction).sum()
        torch.testing.assert_close((g * x).sum(), change, rtol=1e-9, atol=0)
        half = held(0.5 * x, context)
        torch.testing.assert_close(half, (held(x, context) + held(torch.zeros_like(x), context)) / 2)


def test_a_text_tower_is_held_as_well(towers):
    clip = towers("vit")
    texts = TextClip(clip)
    ids = texts.tokenizer(["a photo of a dog", "red"])
    first, last = (HookPoint(f"transformer.resblocks.{i}", "eot") for i in (0, 1))
    tail = make_tail(texts, first)
    segment = Segment(tail, last)
    x, context = capture_context(texts, first, tail, ids)
    x.requires_grad_()
    held = HeldMap(segment, (x, context))
    torch.testing.assert_close(held.value, segment(x, context))
    (g,) = torch.autograd.grad(held.value.sum(), x)
    zero = held(torch.zeros_like(x), context)
    torch.testing.assert_close((g * x).sum(), (held.value - zero).sum())


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (lambda x: x * x, "Mul of two activations"),
        (lambda x: x / x.sum(), "Div by an activation"),
        (lambda x: x.exp(), "Exp is not linear"),
        (lambda x: x @ x.mT, "Mm of two activations"),
        (lambda x: x.abs(), "Abs is not linear"),
    ],
)
def test_what_has_no_rule_is_refused_by_name(run, said):
    with pytest.raises(ValueError, match=said):
        HeldMap(run, (torch.ones(2, 2, requires_grad=True),))


def test_what_only_flows_into_something_held_may_be_anything():
    x = torch.randn(3, 3, requires_grad=True, dtype=torch.float64)
    held = HeldMap(lambda x: (x @ x.mT).softmax(-1) @ x, (x,))
    torch.testing.assert_close(held(2 * x), 2 * held.value)


@pytest.mark.parametrize("mask", [None, "causal", "bool"])
def test_attention_with_a_mask_agrees_with_pytorch(mask):
    torch.manual_seed(0)
    attention = torch.nn.MultiheadAttention(8, 2, batch_first=True).double().eval().requires_grad_(False)
    x = torch.randn(2, 5, 8, dtype=torch.float64, requires_grad=True)
    causal = torch.ones(5, 5, dtype=torch.bool).triu(1)
    given = {None: None, "bool": causal, "causal": torch.zeros(5, 5).double().masked_fill(causal, -torch.inf)}

    def run(x):
        return attention(x, x, x, need_weights=False, attn_mask=given[mask])[0]

    torch.testing.assert_close(HeldMap(run, (x,)).value, run(x))
