"""Proposals on images whose captions, words and columns are known."""

import math

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch.nn.functional import normalize

from lightning_sae.concepts.vocabulary import EmbeddedVocabulary
from lightning_sae.names.candidates import Halves, NameCandidate, best_candidate
from lightning_sae.names.colours import colour_numbers
from lightning_sae.names.proposals import NameImages, proposals
from lightning_sae.names.sources import Attributes, CaptionPhrases, Compositions
from lightning_sae.types import SparseLatents

THINGS, COLOURS = ["star", "sun", "heart", "flag"], ["red", "blue", "green"]
N, D = 1500, 24


class Known:
    """Images of a thing in a colour, and the judge that reads their words exactly."""

    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        self.thing = torch.randint(len(THINGS), (N,), generator=generator)
        self.colour = torch.randint(len(COLOURS), (N,), generator=generator)
        rows = torch.linalg.qr(torch.randn(D, D, generator=generator))[0]
        self.rows = dict(zip([*THINGS, *COLOURS, "nothing", "a"], rows, strict=False))
        shown = rows[self.thing] + rows[len(THINGS) + self.colour]
        noise = torch.randn(N, D, generator=generator) / D**0.5
        self.embeddings = normalize(shown + 0.6 * noise, dim=1)
        self.halves = Halves.of(N)
        self.captions = [f"a {COLOURS[c]} {THINGS[t]}" for t, c in zip(self.thing, self.colour, strict=True)]

    def embed(self, texts):
        return torch.stack(
            [normalize(sum(self.rows[word] for word in text.split()), dim=0) for text in texts]
        )

    def propose(self, fires, labels, kept, sources=()):
        vocabulary = EmbeddedVocabulary(kept, self.embed(kept), torch.zeros(D))
        own = Compositions("vocabulary", kept, vocabulary.texts, self.embeddings, self.halves, self.embed)
        latents = SparseLatents.from_dense(fires.float().T.contiguous())
        images = NameImages(latents, torch.arange(N), self.embeddings, self.halves)
        return [*proposals(range(len(fires)), labels, [*sources, own], vocabulary, images)]


@pytest.fixture(scope="module")
def known():
    return Known()


def test_captions_name_what_the_vocabulary_lacks(known):
    fires = known.thing == 3
    captions = CaptionPhrases(known.captions, known.embeddings, known.halves, known.embed)
    kept = ["star", "sun", "heart", *COLOURS, "nothing"]
    (found,) = known.propose(fires[None], ["sun"], kept, [captions])
    assert (found.name, found.source, found.latent) == ("flag", "captions", 0)
    held_out = ~known.halves.choosing
    own = roc_auc_score(fires[held_out], (known.embeddings @ known.rows["flag"])[held_out])
    assert found.validity == pytest.approx(own, abs=1e-4)
    label = roc_auc_score(fires[held_out], (known.embeddings @ known.rows["sun"])[held_out])
    assert found.vocabulary_validity == pytest.approx(label, abs=1e-4)
    assert found.firing == int(fires[held_out].sum())
    n = int(fires[known.halves.choosing].sum())
    assert found.evidence.startswith(f"in {n} captions of {n} firing images and 0 of {N // 2 - n} others")


def test_combined_factors_are_named_by_both_words(known):
    fires = (known.thing == 3) & (known.colour == 1)
    (found,) = known.propose(fires[None], ["flag"], [*THINGS, *COLOURS, "nothing"])
    assert {*found.name.split()} == {"flag", "blue"}
    assert found.validity > found.vocabulary_validity + 0.03
    assert "flag: AUROC" in found.evidence
    assert "blue: AUROC" in found.evidence


def test_what_fires_too_seldom_always_or_at_random_gets_no_name(known):
    seldom = torch.zeros(N, dtype=torch.bool)
    seldom[:6] = True
    random = torch.rand(N, generator=torch.Generator().manual_seed(1)) < 0.1
    fires = torch.stack([seldom, torch.ones(N, dtype=torch.bool), random])
    captions = CaptionPhrases(known.captions, known.embeddings, known.halves, known.embed)
    assert known.propose(fires, ["", "", ""], [*THINGS, *COLOURS], [captions]) == []


def test_a_latent_without_a_label_has_no_validity_of_one(known):
    (found,) = known.propose((known.thing == 0)[None], [""], [*THINGS, *COLOURS])
    assert found.name == "star"
    assert math.isnan(found.vocabulary_validity)


def test_columns_of_the_data_and_both_ends_of_a_statistic(known):
    factors = {"site": (["here", "there"], (known.thing == 2).long())}
    brightness = known.colour.float()
    statistics = {"bright picture": brightness, "dark picture": -brightness}
    attributes = Attributes(factors, statistics, known.halves)
    chosen = known.halves.choosing
    assert [c.name for c in attributes.candidates((known.thing == 2)[chosen])] == ["site: there"]
    assert [c.name for c in attributes.candidates((known.colour == 0)[chosen])] == ["dark picture"]
    assert attributes.candidates((known.colour == 1)[chosen]) == []


def test_the_half_that_chooses_does_not_judge():
    halves = Halves.of(400, seed=3)
    assert int(halves.choosing.sum()) == 200
    generator = torch.Generator().manual_seed(0)
    fires = torch.rand(400, generator=generator) < 0.5
    noise = [torch.rand(400, generator=generator) for _ in range(300)]
    best = best_candidate([NameCandidate(str(i), s, "") for i, s in enumerate(noise)], fires, halves)
    assert best.auroc > 0.58  # the best of 300 that know nothing
    assert abs(halves.validity(best.candidate.scores, fires) - 0.5) < 0.1
    assert best_candidate([], fires, halves) is None


def test_statistics_of_colours():
    white, checks = torch.ones(4, 4, 3), torch.zeros(2, 2, 3)
    checks[0, 0] = checks[1, 1] = 1.0
    assert colour_numbers(white).tolist() == pytest.approx([1, 0, 0, 0, 0, 0])
    assert colour_numbers(checks).tolist() == pytest.approx([0.5, 0.5, 0, 0, 0, 0])
    blue = torch.zeros(3, 3, 3)
    blue[..., 2] = 0.6
    assert colour_numbers(blue).tolist() == pytest.approx([0.2, 0, 0.6, -0.2, -0.2, 0.4], abs=1e-6)
    assert colour_numbers(torch.zeros(1, 1, 3)).isfinite().all()
