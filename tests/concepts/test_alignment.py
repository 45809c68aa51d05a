import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from lightning_sae.concepts.alignment import (
    alignment_scores,
    best_labels,
    clarity,
    concept_vectors,
    paired_alignment,
    semantic_lens,
)


def unit(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)


@pytest.fixture
def image_ids():
    """Seven latents with 5, 4, ..., 0 and 5 top images out of 30."""
    ids = torch.stack([torch.randperm(30, generator=torch.Generator().manual_seed(j))[:5] for j in range(7)])
    for latent in range(6):
        ids[latent, 5 - latent :] = -1
    return ids


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_concept_vectors_are_means_of_the_images_that_are_there(image_ids):
    embeddings = unit(30, 4)
    vectors = concept_vectors(image_ids, embeddings).numpy()
    for ids, vector in zip(image_ids.tolist(), vectors, strict=True):
        rows = [embeddings[i].numpy() for i in ids if i >= 0]
        np.testing.assert_allclose(vector, np.mean(rows, axis=0) if rows else np.full(4, np.nan))


def test_scores_are_the_formula(image_ids):
    vectors, texts, empty = concept_vectors(image_ids, unit(30, 4)), unit(6, 4, seed=1), unit(4, seed=2)
    scores = alignment_scores(vectors, texts, empty)
    for j, v in enumerate(vectors.numpy()):
        expected = [cosine(v, t) - cosine(v, empty.numpy()) for t in texts.numpy()]
        np.testing.assert_allclose(scores[j], expected)


@pytest.mark.parametrize("chunk_size", [1, 3, 7, 100])
def test_best_labels_for_any_chunk_size(image_ids, chunk_size):
    vectors, texts, empty = concept_vectors(image_ids, unit(30, 4)), unit(6, 4, seed=1), unit(4, seed=2)
    labels = best_labels(vectors, texts, empty, chunk_size)
    scores = alignment_scores(vectors, texts, empty).numpy()
    for j in [0, 1, 2, 3, 4, 6]:
        order = np.argsort(-scores[j])
        assert labels.index[j] == order[0]
        assert labels.score[j].item() == pytest.approx(scores[j, order[0]])
        assert labels.second[j] == order[1]
        assert labels.margin[j].item() == pytest.approx(scores[j, order[0]] - scores[j, order[1]])


def test_scores_of_pairs_are_their_formulas(image_ids):
    vectors, texts, empty = concept_vectors(image_ids, unit(30, 4)), unit(7, 4, seed=1), unit(4, seed=2)
    aligned, lens = paired_alignment(vectors, texts, empty), semantic_lens(vectors, texts, empty)
    e = empty.numpy()
    for j, (v, t) in enumerate(zip(vectors.numpy(), texts.numpy(), strict=True)):
        assert aligned[j].item() == pytest.approx(cosine(v, t) - cosine(v, e), nan_ok=True)
        assert lens[j].item() == pytest.approx(cosine(v, t - e), nan_ok=True)
    torch.testing.assert_close(aligned, alignment_scores(vectors, texts, empty).diag(), equal_nan=True)
    assert semantic_lens(vectors[:1], empty, empty).item() == 0


def test_never_holds_more_than_a_chunk_of_scores(image_ids, monkeypatch):
    """The widest result of any product has `chunk_size` rows."""
    sizes, product = [], torch.Tensor.__matmul__
    monkeypatch.setattr(
        torch.Tensor, "__matmul__", lambda a, b: sizes.append((out := product(a, b)).shape) or out
    )
    best_labels(concept_vectors(image_ids, unit(30, 4)), unit(6, 4, seed=1), unit(4, seed=2), chunk_size=2)
    assert {shape for shape in sizes if len(shape) == 2} == {(2, 6), (1, 6)}


def test_a_latent_without_images_has_no_label(image_ids):
    labels = best_labels(concept_vectors(image_ids, unit(30, 4)), unit(6, 4, seed=1), unit(4, seed=2))
    assert labels.index[5] == -1
    assert labels.score[5].isnan()
    assert labels.margin[5].isnan()
    assert labels.second[5] == -1


def test_ties_go_to_the_lower_index():
    texts = torch.eye(3)[[2, 0, 0, 0, 1]]
    labels = best_labels(torch.tensor([[2.0, 1.0, 0.0]]), texts, torch.zeros(3))
    assert labels.index.item() == 1
    assert labels.second.item() == 2
    assert labels.margin.item() == 0


def test_the_empty_prompt_changes_the_score_and_not_the_label(image_ids):
    vectors, texts = concept_vectors(image_ids, unit(30, 4)), unit(6, 4, seed=1)
    one, other = (best_labels(vectors, texts, unit(4, seed=seed)) for seed in (2, 3))
    assert torch.equal(one.index, other.index)
    assert not torch.allclose(one.score, other.score, equal_nan=True)
    torch.testing.assert_close(one.margin, other.margin, equal_nan=True)


def test_a_vocabulary_of_one_has_no_second_label():
    labels = best_labels(torch.ones(1, 2), torch.eye(2)[:1], torch.zeros(2))
    assert labels.index.item() == 0
    assert labels.margin.isinf().item()
    assert labels.second.item() == -1


def test_clarity_is_the_mean_cosine_of_different_images(image_ids):
    embeddings = unit(30, 4)
    for value, ids in zip(clarity(image_ids, embeddings).tolist(), image_ids.tolist(), strict=True):
        rows = embeddings[[i for i in ids if i >= 0]].numpy()
        if len(rows) < 2:
            assert np.isnan(value)
            continue
        cosines = rows @ rows.T
        assert value == pytest.approx(cosines[~np.eye(len(rows), dtype=bool)].mean())


def test_clarity_of_equal_and_of_opposite_images():
    embeddings = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    assert clarity(torch.tensor([[0, 1], [0, 2]]), embeddings).tolist() == [1.0, -1.0]


def test_works_under_inference_mode(image_ids):
    with torch.inference_mode():
        vectors = concept_vectors(image_ids, unit(30, 4))
        assert best_labels(vectors, unit(6, 4, seed=1), unit(4, seed=2)).index.shape == (7,)
