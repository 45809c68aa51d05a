"""A vocabulary as a CLIP of a run reads it, embedded once for all runs."""

from functools import partial

from lightning_sae.clip import Clip
from lightning_sae.concepts.vocabulary import EmbeddedVocabulary, Vocabulary, embed_labels
from lightning_sae.data import ActivationDataModule, cached_tensor


def stored_vocabulary(data: ActivationDataModule, clip: Clip, vocabulary: Vocabulary) -> EmbeddedVocabulary:
    """Return an embedded vocabulary, which is kept in the store of the judge.

    Args:
        data: of the run; a vocabulary without labels of its own takes those of the data.
        clip: that reads it: the judge, or the CLIP under audit.
        vocabulary: labels and templates.
    """
    labels, templates = vocabulary.choose(data.images("val").vocabulary), vocabulary.templates
    key = {"weights": clip.identity()["weights"], "labels": labels, "templates": templates}
    embed = partial(embed_labels, clip, [*labels, ""], templates)
    rows = cached_tensor(data.judge_folder / "texts", "texts", key, embed)
    return EmbeddedVocabulary(labels, rows[:-1], rows[-1])
