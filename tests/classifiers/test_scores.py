import pytest
import torch
from torch.func import jacfwd, jacrev, vmap
from torch.nn.functional import normalize

from lightning_sae.classifiers.linear import LinearClassifier, fit_probe
from lightning_sae.classifiers.outputs import OUTPUTS as KNOWN
from lightning_sae.classifiers.outputs import CosineOutput, MarginOutput, Output, as_output
from lightning_sae.classifiers.scores import ClassScores, make_score

N, C, D = 7, 4, 6
OUTPUTS = ["cosine", "logit", "margin", "probability"]
SCALE = 9.0


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


EMBEDDINGS, TEXTS = normalize(random(N, D), dim=1), normalize(random(C, D, seed=1), dim=1)
PROBE = LinearClassifier(5 * random(C, D, seed=2), random(C, seed=3))
TARGETS = torch.tensor([0, 3, 1, 1, 2, 0, 3])


def reference(logits, output):
    """Written out with softmax and odds, another way than the library's."""
    p = logits.softmax(-1)
    return {"logit": logits, "margin": (p / (1 - p)).log(), "probability": p}[output]


@pytest.mark.parametrize("output", OUTPUTS[1:])
@pytest.mark.parametrize("classes", [TEXTS, PROBE], ids=["texts", "probe"])
def test_scores_of_all_classes_and_of_one_an_image(classes, output):
    own = classes is PROBE
    logits = EMBEDDINGS @ PROBE.weight.T + PROBE.bias if own else SCALE * EMBEDDINGS @ TEXTS.T
    expected = reference(logits, output)
    torch.testing.assert_close(ClassScores(classes, output, SCALE)(EMBEDDINGS), expected)
    score = make_score(classes, output, TARGETS, SCALE)
    picked = expected[torch.arange(N), TARGETS]
    torch.testing.assert_close(score(EMBEDDINGS, slice(0, N)), picked)
    again = torch.tensor([6, 0, 6, 2])
    torch.testing.assert_close(score(EMBEDDINGS[again], again), picked[again])


def test_prompts_one_for_all_or_one_an_image():
    single = make_score(TEXTS[0], "logit", logit_scale=SCALE)
    torch.testing.assert_close(single(EMBEDDINGS, slice(0, N)), SCALE * EMBEDDINGS @ TEXTS[0])
    own = make_score(TEXTS[TARGETS])
    rows = torch.tensor([5, 5, 1])
    torch.testing.assert_close(own(EMBEDDINGS[rows], rows), (EMBEDDINGS * TEXTS[TARGETS]).sum(1)[rows])


@pytest.mark.parametrize("output", ["margin", "probability"])
@pytest.mark.parametrize("scale", [1.0, 40.0])
def test_slopes_are_the_jacobian_in_both_modes(output, scale):
    scores = ClassScores(TEXTS, output, scale)
    factor, centre, best, best_slope = scores.slopes(EMBEDDINGS)
    found = factor[:, :, None] * (scores.weight - centre[:, None])
    found[torch.arange(N), best] = best_slope
    for jacobian in (jacrev, jacfwd):
        torch.testing.assert_close(found, vmap(jacobian(scores))(EMBEDDINGS))


class Own(Output):
    """The scores of another output, and nothing that it does beside."""

    def __init__(self, of, name="own"):
        self.of, self.name = KNOWN[of], name

    def scores(self, logits):
        return self.of.scores(logits)


@pytest.mark.parametrize("output", OUTPUTS[1:])
@pytest.mark.parametrize("scale", [1.0, 40.0])
def test_what_an_own_output_inherits_is_what_the_known_ones_do(output, scale):
    scores, known = ClassScores(TEXTS, Own(output), scale), ClassScores(TEXTS, output, scale)
    logits = scores.logits(EMBEDDINGS)
    torch.testing.assert_close(scores.output.pick(logits, TARGETS), known.output.pick(logits, TARGETS))
    z, direction, step = EMBEDDINGS.clone().requires_grad_(), random(N, D, seed=4), 1e-6
    (gradient,) = torch.autograd.grad(scores.of(TARGETS)(z, slice(0, N)).sum(), z)
    up, down = (known.of(TARGETS)(EMBEDDINGS + s * direction, slice(0, N)) for s in (step, -step))
    torch.testing.assert_close((gradient * direction).sum(1), (up - down) / (2 * step), rtol=1e-6, atol=1e-8)


def test_a_certain_class_keeps_its_margin_and_slope_in_single_precision():
    e = torch.tensor([[1.0, 0.0]])
    scores = ClassScores(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]), "margin", 100.0)
    assert scores(e)[0, 0].item() == pytest.approx(100 - torch.tensor(2.0).log().item())
    slope = scores.slopes(e).best_slope[0]
    assert slope.tolist() == pytest.approx([100.0, 0.0], abs=1e-4)
    z = e.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(scores(z)[0, 0], z)
    torch.testing.assert_close(gradient[0], slope)


def test_scores_made_in_inference_mode_enter_a_graph():
    with torch.inference_mode():
        score = make_score(TEXTS.clone(), "margin", TARGETS.clone(), SCALE)
    z = EMBEDDINGS.clone().requires_grad_()
    assert torch.autograd.grad(score(z, slice(0, N)).sum(), z)[0].isfinite().all()


@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_probe_maximises_the_penalised_likelihood(n_classes):
    targets = torch.arange(60) % n_classes
    e = normalize(random(60, D, seed=5) + 2 * torch.eye(D).double()[targets], dim=1)
    unknown = torch.cat([targets, torch.tensor([-1])])
    probe = fit_probe(torch.cat([e, e[:1]]), unknown, n_classes, inverse_l2=3.0)
    weight, bias = (part.double().requires_grad_() for part in (probe.weight, probe.bias))
    penalty = weight.square().sum() / (1 if n_classes == 2 else 2)  # of two classes their difference's
    loss = 3.0 * torch.nn.functional.cross_entropy(e @ weight.T + bias, targets, reduction="sum") + penalty
    for slope in torch.autograd.grad(loss, (weight, bias)):
        assert slope.abs().max() < 0.02
    assert ((e @ weight.T + bias).argmax(1) == targets).double().mean() > 0.8


def test_what_cannot_be_scored():
    with pytest.raises(ValueError, match="must be one of cosine, logit, margin, probability; got 'energy'"):
        make_score(TEXTS, "energy", TARGETS)
    with pytest.raises(ValueError, match="compares classes"):
        make_score(TEXTS[0], "margin")
    with pytest.raises(ValueError, match="two or more"):
        ClassScores(TEXTS[:1], "probability")
    with pytest.raises(ValueError, match="a probe has logits"):
        ClassScores(PROBE, "cosine")
    with pytest.raises(ValueError, match="compares classes"):
        make_score(TEXTS, Own("margin"))
    for name in ("margin", ""):
        with pytest.raises(ValueError, match=f"a name of its own, got {name!r}"):
            as_output(Own("logit", name))
    for thing in (MarginOutput, {"_target_": "mine.Own"}, None):
        with pytest.raises(ValueError, match=r"one of cosine, .*One of your own"):
            as_output(thing)


def test_an_output_is_a_name_or_an_object():
    own = Own("margin")
    assert (as_output(own), as_output("margin")) == (own, KNOWN["margin"])
    assert str(as_output(CosineOutput())) == "cosine"  # as a configuration may name it
    assert [KNOWN[name].for_probe().name for name in OUTPUTS] == ["logit", *OUTPUTS[1:]]
    with pytest.raises(ValueError, match=r"classes \[1\] have none"):
        fit_probe(EMBEDDINGS[:2], torch.tensor([0, 2]), 3)
