import pytest
import torch

from lightning_sae.attribution import per_class as class_attribution
from lightning_sae.attribution.closed_form import LastLayer
from lightning_sae.attribution.methods import ActGrad
from lightning_sae.attribution.per_class import attribute_classes, mean_over_images
from lightning_sae.classifiers.outputs import Output, as_output
from lightning_sae.classifiers.scores import ClassScores

SCALE = 8.0


class Own(Output):
    """The scores of another output, without the closed forms that it may have."""

    name = "own"

    def __init__(self, of):
        self.scores_of = as_output(of).scores

    def scores(self, logits):
        return self.scores_of(logits)


@pytest.fixture(params=["cosine", "logit", "margin", "probability", "probe", "probe margin", "own margin"])
def scores(request, texts, probe):
    output = request.param.removeprefix("probe").strip() or "logit"
    if output.startswith("own"):
        output = Own(output.removeprefix("own "))
    return ClassScores(probe if "probe" in request.param else texts, output, SCALE)


def one_by_one(explained, scores):
    """`[nnz, C]`, a gradient per class."""
    n = len(explained.x)
    classes = [scores.of(torch.full((n,), c)) for c in range(len(scores.weight))]
    return torch.stack([ActGrad()(explained, score) for score in classes], 1)


@pytest.mark.parametrize("mode", ["auto", "forward", "reverse"])
@torch.inference_mode()
def test_both_modes_equal_a_gradient_per_class(explained, scores, mode):
    found = attribute_classes(explained, scores, mode)
    assert found.abs().max() > 1e-4
    torch.testing.assert_close(found, one_by_one(explained, scores))


@pytest.mark.parametrize(
    ("mode", "n_classes", "expected"),
    [
        ("auto", 4, "_forward"),
        ("auto", 3, "_reverse"),
        ("forward", 1, "_forward"),
        ("reverse", 4, "_reverse"),
    ],
)
def test_auto_takes_the_mode_of_fewer_passes(last, texts, mode, n_classes, expected, monkeypatch):
    """An image has three active latents at most."""
    taken = []
    for name in ("_forward", "_reverse"):
        monkeypatch.setattr(class_attribution, name, lambda *_, name=name: taken.append(name))
    attribute_classes(last, ClassScores(texts[:n_classes]), mode)
    assert taken == [expected]


@pytest.mark.parametrize("case", ["last", "final"], indirect=True)
def test_the_closed_form_equals_a_gradient_per_class(explained, scores):
    closed = LastLayer.of(explained.tail, explained.W_dec)
    torch.testing.assert_close(closed.attribute(explained, scores), one_by_one(explained, scores))


@pytest.mark.parametrize("output", ["logit", "margin", "probability"])
@pytest.mark.parametrize("case", ["last", "final"], indirect=True)
def test_an_output_without_a_closed_form_has_the_same_slopes(explained, texts, output):
    found, closed = [], LastLayer.of(explained.tail, explained.W_dec)
    for scores in (ClassScores(texts, Own(output), SCALE), ClassScores(texts, output, SCALE)):
        means = mean_over_images(explained.tail, explained.W_dec, scores)
        means.update(explained)
        found.append((closed.attribute(explained, scores), means.compute()))
    torch.testing.assert_close(*found)
    values, entry, step = found[0][0], 4, 1e-6
    latents, image = explained.latents, int(explained.image_rows()[entry])
    shift = step * latents.values[entry] * explained.W_dec[latents.indices[entry]]
    up, down = (scores(explained.tail(explained.x + s, None))[image] for s in (shift, -shift))
    torch.testing.assert_close(values[entry], (up - down) / (2 * step), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("case", ["cls", "patch", "mlp"], indirect=True)
def test_other_tails_have_no_closed_form(explained):
    assert LastLayer.of(explained.tail, explained.W_dec) is None
    assert LastLayer.of(lambda x, context: x[:, 0], explained.W_dec) is None


def looped_means(explained, scores):
    """`[C, d_sae]` by plain loops."""
    values, latents = one_by_one(explained, scores), explained.latents
    expected = torch.zeros(len(scores.weight), latents.d_sae).double()
    for entry, j in enumerate(latents.indices.tolist()):
        expected[:, j] += values[entry] / len(explained.x)
    return expected


@pytest.mark.parametrize("chunk", [1 << 22, 30])
def test_means_over_images_equal_loops_over_classes(explained, scores, chunk, monkeypatch):
    monkeypatch.setattr(class_attribution, "CHUNK", chunk)
    with torch.inference_mode():
        means = mean_over_images(explained.tail, explained.W_dec, scores)
        for start, stop in [(0, 2), (2, 2), (2, 5)]:
            means.update(explained.images(start, stop))
        found = means.compute()
    torch.testing.assert_close(found, looped_means(explained, scores))


@pytest.mark.parametrize("case", ["last", "patch"], indirect=True)
def test_sums_of_two_processes_add_up(explained, scores):
    means = [mean_over_images(explained.tail, explained.W_dec, scores) for _ in range(2)]
    for metric, rows in zip(means, [(0, 3), (3, 5)], strict=True):
        metric.update(explained.images(*rows))
    for name, reduction in means[0]._reductions.items():
        parts = torch.stack([getattr(metric, name) for metric in means])
        setattr(means[0], name, reduction(parts))
    torch.testing.assert_close(means[0].compute(), looped_means(explained, scores))


@pytest.mark.parametrize("case", ["last", "patch"], indirect=True)
def test_no_images_have_no_mean(explained, scores):
    means = mean_over_images(explained.tail, explained.W_dec, scores)
    means.update(explained.images(0, 0))
    assert means.compute().isnan().all()


def test_an_unknown_mode(last, texts):
    with pytest.raises(ValueError, match="auto, forward or reverse, got 'both'"):
        attribute_classes(last, ClassScores(texts), "both")
