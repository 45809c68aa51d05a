"""What the tiny CLIPs are trained with."""

import pytest
import torch

from lightning_sae.world import distractors, label_of
from lightning_sae.world.pretrain import contrastive_loss, optimisers_of, strangers


def test_a_stranger_competes_for_pictures_and_asks_for_none():
    generator = torch.Generator().manual_seed(0)
    images, texts = (torch.randn(n, 8, generator=generator, dtype=torch.float64) for n in (5, 4))
    caption, scale = torch.tensor([0, 1, 1, 2, 0]), torch.tensor(2.0)
    logits = (scale * images @ texts.T).tolist()
    of_pictures, of_captions = [], []
    for row, own in zip(logits, caption.tolist(), strict=True):
        of_pictures.append(torch.tensor(row).logsumexp(0) - row[own])
    for text in range(3):  # text 3 is no picture's
        column = torch.tensor([row[text] for row in logits])
        of_captions.append(column.logsumexp(0) - column[caption == text].mean())
    expected = (torch.stack(of_pictures).mean() + torch.stack(of_captions).mean()) / 2
    assert torch.isclose(contrastive_loss(images, texts, caption, scale).float(), expected, atol=1e-5)


def test_strangers_are_all_words_but_the_worlds():
    texts = set(strangers())
    known = {*label_of("class"), *label_of("colour"), *label_of("background"), *label_of("word")}
    assert not texts & known
    assert {"avocado", "a photo of a avocado", "the word avocado"} <= texts
    assert len(set(distractors()) & texts) >= 0.9 * len(distractors()), "the others have two tokens"


def test_an_old_pytorch_is_told_what_is_missing(monkeypatch):
    monkeypatch.delattr(torch.optim, "Muon", raising=False)
    with pytest.raises(RuntimeError, match=r"needs PyTorch 2\.9 or newer"):
        optimisers_of(torch.nn.Linear(1, 1), None)
