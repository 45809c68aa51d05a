"""A classifier of prompts or of a probe, against the products written out."""

import pytest
import torch
from torch.nn.functional import normalize

from lightning_sae.classifiers.classifier import Classifier

N, C, D, SCALE = 9, 3, 5, 20.0
generator = torch.Generator().manual_seed(0)
EMBEDDINGS, TEXTS = (normalize(torch.randn(n, D, generator=generator).double()) for n in (N, C))
NAMES, PROMPTS = ["a", "b", "c"], [["an a"], ["a b", "some b"], ["a c"]]
OF_PROMPTS = Classifier.of_prompts(NAMES, PROMPTS, TEXTS, SCALE)
OF_PROBE = Classifier(3 * TEXTS, torch.tensor([0.5, -0.5, 0.0]).double(), NAMES)


def test_logits_of_prompts_are_scaled_cosines():
    logits = torch.tensor([[SCALE * sum(e * t) for t in TEXTS] for e in EMBEDDINGS])
    torch.testing.assert_close(OF_PROMPTS.logits(EMBEDDINGS), logits)
    assert OF_PROMPTS.predict(EMBEDDINGS).tolist() == logits.argmax(1).tolist()
    torch.testing.assert_close(OF_PROMPTS.scores("logit")(EMBEDDINGS), logits)
    torch.testing.assert_close(OF_PROMPTS.scores("cosine")(EMBEDDINGS), logits / SCALE)
    others = torch.stack([logits[:, [i for i in range(C) if i != c]].logsumexp(1) for c in range(C)], 1)
    torch.testing.assert_close(OF_PROMPTS.scores("margin")(EMBEDDINGS), logits - others)
    assert OF_PROMPTS.kind == "prompts"


def test_a_probe_has_logits_in_place_of_cosines():
    logits = 3 * EMBEDDINGS @ TEXTS.T + torch.tensor([0.5, -0.5, 0.0])
    for output in ("cosine", "logit"):
        torch.testing.assert_close(OF_PROBE.scores(output)(EMBEDDINGS), logits)
    assert OF_PROBE.kind == "probe"


def test_of_equals_the_lower_class_is_predicted():
    even = Classifier(torch.ones(C, D), torch.zeros(C), NAMES)
    assert even.predict(torch.ones(2, D)).tolist() == [0, 0]


@pytest.mark.parametrize("classifier", [OF_PROMPTS, OF_PROBE], ids=["prompts", "probe"])
def test_in_another_precision_it_keeps_its_names(classifier):
    half = classifier.to(torch.empty(0))
    assert (half.weight.dtype, half.bias.dtype) == (torch.float32, torch.float32)
    assert (half.class_names, half.prompts, half.kind) == (NAMES, classifier.prompts, classifier.kind)
