import pytest
import torch

from lightning_sae.attribution.edges.edges import edges_to_latents, edges_to_scores, onward_map
from lightning_sae.attribution.edges.layers import Layer, check_layers, look
from lightning_sae.attribution.edges.linearised import Linearised
from lightning_sae.attribution.edges.targets import choose
from lightning_sae.classifiers.scores import ClassScores
from lightning_sae.clip import HookPoint, check_path
from lightning_sae.sae import Gated, JumpReLU

from .conftest import random_sae, seen_at

BLOCK = "visual.transformer.resblocks."
CHAINS = {
    "cls": [HookPoint(BLOCK + "0", "cls"), HookPoint(BLOCK + "2", "cls")],
    "patch": [HookPoint(BLOCK + "0", "patch"), HookPoint(BLOCK + "1", "patch")],
    "all to cls": [HookPoint(BLOCK + "0", "all"), HookPoint(BLOCK + "3", "cls")],
    "inside a block": [HookPoint(BLOCK + "0.mlp", "all"), HookPoint(BLOCK + "2.mlp", "patch")],
}


@pytest.fixture(params=CHAINS)
def chain(request, deep):
    return seen_at(deep, CHAINS[request.param])


def dense(pairs, rows, sources):
    found = torch.zeros(rows, sources, dtype=torch.float64)
    return found.index_put((pairs.target, pairs.source), pairs.value, accumulate=True)


def brute_force(seen, later, by_token):
    """The Jacobian of the real part of CLIP, one entry of the later latents at a time."""
    x, context = seen.onward.x.clone().requires_grad_(), seen.onward.context
    y = seen.onward.tail(x, context).flatten(0, 1)
    latents, sources, t = later.explained.latents, seen.explained.latents, later.explained.x.shape[1]
    tokens, d = seen.explained.x.shape[1], sources.d_sae
    found = {}
    for row, j in zip(latents.rows().tolist(), latents.indices.tolist(), strict=True):
        (g,) = torch.autograd.grad(y[row] @ later.layer.sae.encoder[j], x, retain_graph=True)
        for entry, (place, i) in enumerate(
            zip(sources.rows().tolist(), sources.indices.tolist(), strict=True)
        ):
            if place // tokens != row // t:
                continue
            edge = sources.values[entry] * (seen.explained.W_dec[i] @ g.flatten(0, 1)[place])
            target = (row // t, (row % t * d + j) if by_token else j)
            source = place % tokens * d + i if by_token else i
            found[target, source] = found.get((target, source), 0) + float(edge)
    return found


@pytest.mark.parametrize("by_token", [False, True])
def test_true_edges_are_the_jacobian(chain, by_token):
    chain = [layer.images(1, 2) for layer in chain]
    found, targets = edges_to_latents(*chain, rule="gradient", by_token=by_token)
    truth = brute_force(*chain, by_token)
    got = {
        ((int(targets.image[r]), int(targets.node[r])), int(i)): float(value)
        for r, i, value in zip(*found.pairs, strict=True)
    }
    assert got.keys() == truth.keys()
    assert got == pytest.approx(truth, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("rule", ["frozen", "gradient"])
@pytest.mark.parametrize("by_token", [False, True])
def test_forward_and_reverse_agree(chain, rule, by_token):
    forward, reverse = (
        edges_to_latents(*chain, rule, by_token=by_token, direction=direction)[0]
        for direction in ("forward", "reverse")
    )
    for one, other in zip((*forward.pairs, *forward[1:]), (*reverse.pairs, *reverse[1:]), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_the_sum_rule(chain):
    """Edges, error and bias make the pre-activation, but for what no input at all gives."""
    seen, later = chain
    found, targets = edges_to_latents(seen, later, "frozen")
    held = onward_map(seen, None, "frozen")
    zero = later.explained.x - held(torch.zeros_like(seen.onward.x))
    whole = dense(found.pairs, len(targets), 24).sum(1) + found.beside[:, :2].sum(1)
    torch.testing.assert_close(whole, targets.read(zero), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(whole + found.beside[:, 2] + found.constant, targets.value)


def test_the_sum_rule_of_scores(deep):
    seen = seen_at(deep, [HookPoint(BLOCK + "1", "all")])[0]
    scores = ClassScores(torch.randn(4, 32, dtype=torch.float64), "logit", logit_scale=10.0)
    classes = torch.tensor([0, 3, 3])
    found, targets = edges_to_scores(seen, scores, classes, "frozen")
    embeddings = seen.explained.tail(seen.explained.x, seen.explained.context)
    torch.testing.assert_close(targets.value, scores.of(classes)(embeddings, slice(0, 3)))
    zero = targets.read(onward_map(seen, scores, "frozen")(torch.zeros_like(seen.onward.x)))
    whole = dense(found.pairs, 3, 24).sum(1) + found.beside[:, :2].sum(1)
    torch.testing.assert_close(whole, targets.value - zero)


def test_true_edges_are_finite_differences(chain):
    seen, _ = chain
    linearised = Linearised(seen.onward.tail, seen.onward.x, seen.onward.context, "gradient")
    direction = torch.randn_like(seen.onward.x)
    step = 1e-6
    up, down = (seen.onward.tail(seen.onward.x + s * direction, seen.onward.context) for s in (step, -step))
    torch.testing.assert_close(
        linearised.push(direction[None])[0], (up - down) / (2 * step), rtol=1e-5, atol=1e-7
    )


def test_images_do_not_see_each_other(chain):
    whole, targets = edges_to_latents(*chain)
    for i in range(3):
        alone, _ = edges_to_latents(*(layer.images(i, i + 1) for layer in chain))
        rows = (targets.image == i).nonzero().flatten()
        expected = dense(whole.pairs, len(targets), 24)[rows]
        torch.testing.assert_close(dense(alone.pairs, len(rows), 24), expected)


def test_chosen_targets_are_a_part(chain):
    whole, targets = edges_to_latents(*chain)
    j = int(targets.node[0])
    some, mine = edges_to_latents(*chain, chosen=choose(chain[1], [j]))
    assert set(mine.node.tolist()) == {j}
    rows = (targets.node == j).nonzero().flatten()
    torch.testing.assert_close(dense(some.pairs, len(mine), 24), dense(whole.pairs, len(targets), 24)[rows])


@pytest.mark.parametrize("variant", ["gated", "jump_relu", "layer_norm"])
def test_the_slope_of_an_active_latent_is_what_its_encoder_does(variant):
    torch.manual_seed(0)
    x = torch.randn(6, 8, dtype=torch.float64)
    if variant == "gated":
        sae = Gated(8, 16, l1_weight=1.0).double()
        sae.r_mag.data.normal_()
        sae.b_mag.data.fill_(0.1)
    else:
        normalisation = "layer_norm" if variant == "layer_norm" else "standard"
        sae = JumpReLU(8, 16, l0_weight=1.0, threshold=0.1, normalisation=normalisation).double()
    latents = sae.encode(x)
    step = 1e-6 * torch.randn(8, dtype=torch.float64)
    if variant == "layer_norm":  # a change that leaves the spread of each token alone
        centred = x - x.mean(1, keepdim=True)
        step = step - centred * (centred @ step)[:, None] / centred.square().sum(1, keepdim=True)
    change = sae.encode(x + step).values - latents.values
    slopes = sae.encoder_slopes()[latents.indices]
    expected = (slopes * step.expand(6, 8)[latents.rows()]).sum(1)
    torch.testing.assert_close(change, expected, rtol=1e-4, atol=1e-12)


def test_hook_points_must_be_in_order(deep):
    first, second = HookPoint(BLOCK + "0", "all"), HookPoint(BLOCK + "2", "all")
    pixels = torch.zeros(1, 3, 32, 32)
    sae = random_sae(torch.randn(4, 64, dtype=torch.float64))
    with pytest.raises(
        ValueError, match=r"in the order .*: got visual\S+2:all, .*; use visual\S+0:all, visual\S+2:all"
    ):
        check_layers(deep, [Layer(second, sae), Layer(first, sae)])
    with pytest.raises(ValueError, match="of one tower"):
        check_layers(deep, [Layer(first, sae), Layer(HookPoint("transformer.resblocks.0", "eot"), sae)])
    with pytest.raises(ValueError, match="different modules"):
        check_layers(deep, [Layer(first, sae), Layer(first._replace(tokens="cls"), sae)])
    with pytest.raises(ValueError, match="at least one layer"):
        check_layers(deep, [])
    with pytest.raises(ValueError, match="at least one image"):
        look(deep, [Layer(first, sae)], pixels[:0])


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        (("0:all", "2.attn.out_proj:all"), r"the image tower never reaches \S+2\.attn\.out_proj:all"),
        (("3:patch", "3.nothing:all"), "has no module"),
    ],
)
def test_hook_points_that_are_not_there(deep, modules, message):
    points = [HookPoint(*f"{BLOCK}{name}".split(":")) for name in modules]
    with pytest.raises(ValueError, match=message):
        check_path(deep, points)


def test_hook_points_of_which_one_does_not_act_on_the_next(deep):
    """Behind the last block the class token alone is read."""
    end = HookPoint("visual", "pooled")
    check_path(deep, [HookPoint(BLOCK + "0", "patch"), HookPoint(BLOCK + "3", "all"), end])
    with pytest.raises(ValueError, match=r"3:patch does not act on visual:pooled, .* one behind the other"):
        check_path(deep, [HookPoint(BLOCK + "3", "patch"), end])


def test_autoencoders_must_be_of_this_clip_and_token_rule(deep):
    hook_point = HookPoint(BLOCK + "0", "all")
    sae = random_sae(torch.randn(4, 64, dtype=torch.float64))
    with pytest.raises(ValueError, match="does not say which hook point"):
        Layer.of(sae)
    sae.provenance = {"hook_point": hook_point.module, "tokens": "cls", "clip": deep.identity()}
    assert Layer.of(sae).hook_point == hook_point._replace(tokens="cls")
    with pytest.raises(ValueError, match=r"was trained for visual\S+0:cls"):
        check_layers(deep, [Layer(hook_point, sae)])
    sae.provenance = {"clip": {**deep.identity(), "weights": "others"}}
    with pytest.raises(ValueError, match="made for another CLIP"):
        check_layers(deep, [Layer(hook_point, sae)])
    check_layers(deep, [Layer(hook_point, sae)], strict=False)


def test_an_autoencoder_of_another_width_is_refused(deep):
    sae = random_sae(torch.randn(4, 48, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"resblocks\.0:cls takes activations of width 48, .* have 64"):
        look(deep, [Layer(HookPoint(BLOCK + "0", "cls"), sae)], torch.zeros(1, 3, 32, 32))


def test_targets_must_be_active(deep):
    seen = seen_at(deep, CHAINS["cls"])[1]
    silent = int((~seen.explained.latents.fired()).nonzero()[0])
    with pytest.raises(ValueError, match=f"latent {silent} of .* is not active on these images"):
        choose(seen, [silent])
    seen.layer.sae.tokens_since_fired[silent] = 10**9
    with pytest.raises(ValueError, match=f"latent {silent} of .* is dead"):
        choose(seen, [silent])
    with pytest.raises(ValueError, match=r"one of 0\.\.23"):
        choose(seen, [24])
    with pytest.raises(ValueError, match="rule must be one of frozen, gradient"):
        onward_map(seen, None, "rough")


def test_a_score_that_is_not_linear_cannot_be_held(deep):
    seen = seen_at(deep, [HookPoint(BLOCK + "1", "all")])[0]
    scores = ClassScores(torch.randn(4, 32, dtype=torch.float64), "probability")
    with pytest.raises(ValueError, match="output 'probability' is no linear function"):
        edges_to_scores(seen, scores, torch.zeros(3, dtype=torch.int64), "frozen")
    edges_to_scores(seen, scores, torch.zeros(3, dtype=torch.int64))
