"""Proposals of names: for each latent the best name of every source, and its validity on other images."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor

from lightning_sae.concepts.composition import DEFAULT, Composing
from lightning_sae.concepts.own_names import DIGITS
from lightning_sae.concepts.stored_vocabulary import stored_vocabulary
from lightning_sae.concepts.vocabulary import EmbeddedVocabulary, Vocabulary, embed_labels
from lightning_sae.data.images.image_set import captions_of, known_factors
from lightning_sae.files import write_atomic
from lightning_sae.names.candidates import Halves, NameSource, best_candidate
from lightning_sae.names.colours import colour_statistics
from lightning_sae.names.sources import Attributes, CaptionPhrases, Compositions, Embed
from lightning_sae.progress import track
from lightning_sae.runs.folder import RunFolder
from lightning_sae.runs.image_latents import load_image_latents
from lightning_sae.trust.tables import csv_bytes
from lightning_sae.types import SparseLatents

FILE = "proposals.csv"
MIN_IMAGES = 5  # firing images of either half, without which nothing is proposed


class Proposal(NamedTuple):
    """A name that is proposed for a latent.

    Attributes:
        latent: its number.
        name: the text.
        source: where it comes from.
        validity: AUROC of the text for firing, on images that did not choose it.
        vocabulary_label: the run's label, the best of its vocabulary by alignment.
        vocabulary_validity: AUROC of that label on the same images; NaN for a latent without a label.
        chosen: AUROC of the text on the images that chose it.
        firing: number of images that did not choose the text and on which the latent fires.
        evidence: why it is proposed.
    """

    latent: int
    name: str
    source: str
    validity: float
    vocabulary_label: str
    vocabulary_validity: float
    chosen: float
    firing: int
    evidence: str


class NameImages(NamedTuple):
    """The images by which names are chosen and judged.

    Attributes:
        latents: a row per image, with the largest activation over the image's tokens.
        image_ids: `[n]` int64, ascending.
        embeddings: `[n, d]` unit image embeddings of the judge.
        halves: the two halves: one chooses names, the other judges them.
    """

    latents: SparseLatents
    image_ids: Tensor
    embeddings: Tensor
    halves: Halves


def images_of(run: RunFolder, seed: int = 0) -> NameImages:
    """Return the images of a run for which its folder holds the latents.

    Raises:
        FileNotFoundError: the run has no `image_latents.safetensors`, or its store is not there.
    """
    file = load_image_latents(run.folder)
    embeddings = run.judge_embeddings().float()[file.image_ids]
    return NameImages(file.latents, file.image_ids, embeddings, Halves.of(len(file.image_ids), seed))


def proposals(
    latents: Iterable[int],
    labels: Sequence[str],
    sources: Sequence[NameSource],
    vocabulary: EmbeddedVocabulary,
    images: NameImages,
) -> Iterator[Proposal]:
    """Yield the proposal of each source for each latent, the best first by the images that choose.

    Args:
        latents: latents to name; one that fires on too few images of either half gets no proposal.
        labels: the vocabulary's label of each of these latents; "" for none.
        sources: sources of names.
        vocabulary: vocabulary of the run, as the judge reads it.
        images: images that choose and judge.
    """
    wanted = torch.tensor(list(latents), dtype=torch.int64)
    place = {label: i for i, label in enumerate(vocabulary.labels)}
    dense = images.latents.columns(wanted).to_dense() > 0
    halves = images.halves
    columns = list(zip(wanted.tolist(), labels, dense.T, strict=True))
    for latent, label, fires in track(columns, "looking for names", unit="latents"):
        firing = int(fires[~halves.choosing].sum())
        if min(firing, int(fires[halves.choosing].sum())) < MIN_IMAGES or bool(fires.all()):
            continue
        i = place.get(label, -1)
        known = halves.validity(images.embeddings @ vocabulary.texts[i], fires) if i >= 0 else math.nan
        found = []
        for source in sources:
            best = best_candidate(source.candidates(fires[halves.choosing]), fires, halves)
            if best is not None:
                name, scores, evidence = best.candidate
                valid = halves.validity(scores, fires)
                found.append(
                    Proposal(latent, name, source.title, valid, label, known, best.auroc, firing, evidence)
                )
        yield from sorted(found, key=lambda one: -one.chosen)


def propose_names(
    run: RunFolder,
    latents: Sequence[int],
    words: Sequence[tuple[str, Vocabulary]] = (),
    settings: Composing = DEFAULT,
    seed: int = 0,
) -> pd.DataFrame:
    """Propose names for latents of a run.

    Args:
        run: an opened run; the judge reads the texts.
        latents: numbers of the latents, as of `wanted_latents`.
        words: titles and vocabularies that are used beside the run's own.
        settings: settings of compositions.
        seed: seed of the halves of the images.

    Returns:
        A row per latent and source, the columns of `Proposal`, `group` (of near copies) and `sae`.

    Raises:
        FileNotFoundError: as `images_of`.
    """
    wanted = list(latents)
    images, data = images_of(run, seed), run.data
    own = run.vocabulary()
    vocabulary = stored_vocabulary(data, data.judge, own).to(images.embeddings)

    def embed(texts: Sequence[str]) -> Tensor:
        return embed_labels(data.judge, texts, own.templates).float().cpu()

    sources = sources_of(run, images, vocabulary, embed, settings)
    for title, more in words:
        read = stored_vocabulary(data, data.judge, more).to(images.embeddings)
        sources.append(
            Compositions(title, read.labels, read.texts, images.embeddings, images.halves, embed, settings)
        )
    table = run.latents
    shown = table["judge_label" if "judge_label" in table else "label"] if "label" in table else None
    labels = [""] * len(wanted) if shown is None else [str(shown[j]) for j in wanted]
    found = pd.DataFrame(
        proposals(wanted, labels, sources, vocabulary, images), columns=list(Proposal._fields)
    )
    groups = table["novel_group"] if "novel_group" in table else pd.Series(-1, index=table.index)
    found.insert(1, "group", [int(groups[j]) for j in found["latent"]])
    return found.assign(sae=run.sae_sha256[:DIGITS])


def sources_of(
    run: RunFolder, images: NameImages, vocabulary: EmbeddedVocabulary, embed: Embed, settings: Composing
) -> list[NameSource]:
    """Return the sources that a run's data offer: vocabulary, captions, attributes and colours of images."""
    split, embeddings, halves = run.data.images("val"), images.embeddings, images.halves
    ids = images.image_ids.tolist()
    captions = captions_of(split)
    own = Compositions("vocabulary", vocabulary.labels, vocabulary.texts, embeddings, halves, embed, settings)
    factors = {name: (values, truth[ids]) for name, (values, truth) in known_factors(split).items()}
    texts = run.data.clip.reads_texts
    colours = {} if texts else colour_statistics(run.data, split, images.image_ids)
    attributes = Attributes(factors, colours, halves, settings.min_auroc)
    if not captions:
        return [own, attributes]
    return [CaptionPhrases([captions[i] for i in ids], embeddings, halves, embed), own, attributes]


def wanted_latents(run: RunFolder, latents: Sequence[int] = ()) -> list[int]:
    """Return the latents to name: the given ones, or else all novel ones, the largest group first.

    Raises:
        ValueError: a latent fires nowhere, or the run has no column `novel`.
    """
    table = run.latents
    if latents:
        if silent := [j for j in latents if j not in table.index]:
            raise ValueError(f"latent {silent[0]} is not in latents.csv: no validation image activates it")
        return list(dict.fromkeys(latents))
    if "novel" not in table:
        raise ValueError(
            f"{run.folder} does not say which latents have no name: callbacks.novelty finds them, "
            "behind callbacks.alignment; or name them with --latent N"
        )
    novel = table[table["novel"].astype(str) == "True"]
    return [int(j) for j in novel.sort_values("novel_group", kind="stable").index]


def write_proposals(run: RunFolder, found: pd.DataFrame) -> None:
    """Write `proposals.csv` into the folder of a run, whole or not at all."""
    write_atomic(run.folder / FILE, csv_bytes(found))


def read_proposals(run: RunFolder) -> pd.DataFrame:
    """Return the proposals for the latents of a run's autoencoder, without those for another autoencoder."""
    found = run.table("proposals")
    own = run.sae_sha256[:DIGITS]
    return found[found["sae"] == own] if {*Proposal._fields, "sae"} <= {*found} else pd.DataFrame()
