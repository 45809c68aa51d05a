"""The sources of names: words and their compositions, phrases of captions, attributes of the images."""

from collections.abc import Callable, Sequence

from torch import Tensor

from lightning_sae.concepts.composition import DEFAULT, Composing, Word, compose, composed, orders
from lightning_sae.concepts.phrases import phrases_of, typical_phrases
from lightning_sae.data.images.image_set import Factors
from lightning_sae.metrics import auroc
from lightning_sae.names.candidates import Halves, NameCandidate

Embed = Callable[[Sequence[str]], Tensor]
"""Texts -> `[m, d]` unit embeddings, as the judge reads them in the templates of the run's vocabulary."""


class Compositions:
    """Compositions of up to three words of a vocabulary, found one after the other (`concepts.composition`).

    Args:
        title: title of the vocabulary.
        labels: its `V` labels.
        texts: `[V, d]` unit text embeddings.
        embeddings: `[n, d]` unit image embeddings of the judge.
        halves: of the images.
        embed: gives the embeddings of compositions.
        settings: of the search.
    """

    def __init__(
        self,
        title: str,
        labels: Sequence[str],
        texts: Tensor,
        embeddings: Tensor,
        halves: Halves,
        embed: Embed,
        settings: Composing = DEFAULT,
    ) -> None:
        self.title, self.labels, self.texts = title, labels, texts
        self.embeddings, self.halves, self.embed, self.settings = embeddings, halves, embed, settings

    def candidates(self, fires: Tensor) -> list[NameCandidate]:
        """Return the compositions of the words that were found, in every order of the words."""
        words, _ = compose(fires, self.embeddings[self.halves.choosing], self.texts, self.settings)
        if not words:
            return []
        evidence = "; ".join(self._said(word) for word in words)
        labels = [self.labels[word.text] for word in words]
        if len(words) == 1:
            return [NameCandidate(labels[0], self.embeddings @ composed(self.texts, words), evidence)]
        names = orders(labels)
        return [
            NameCandidate(name, self.embeddings @ text, evidence)
            for name, text in zip(names, self.embed(names), strict=True)
        ]

    def _said(self, word: Word) -> str:
        label, of = self.labels[word.text], f"{word.firing} of {word.images} images"
        return f"{label}: AUROC {word.auroc:.2f}, z {word.z:.1f}, p {word.p:.2g}, {of}"


class CaptionPhrases:
    """Phrases that are more frequent in the captions of firing images (`concepts.phrases`).

    Args:
        captions: of the `n` images, "" for none.
        embeddings: `[n, d]` unit image embeddings of the judge.
        halves: of the images.
        embed: gives the embeddings of phrases; each phrase is read once.
        min_captions: least number of captions with a phrase, among the images that choose.
    """

    title = "captions"

    def __init__(
        self,
        captions: Sequence[str],
        embeddings: Tensor,
        halves: Halves,
        embed: Embed,
        min_captions: int = 5,
    ) -> None:
        self.embeddings, self.embed = embeddings, embed
        chosen = [caption for caption, mine in zip(captions, halves.choosing, strict=True) if mine]
        self.phrases = phrases_of(chosen, min_captions=min_captions)
        self._texts: dict[str, Tensor] = {}

    def candidates(self, fires: Tensor) -> list[NameCandidate]:
        """Return the typical phrases."""
        found = typical_phrases(self.phrases, fires.cpu().numpy())
        unread = [phrase.name for phrase in found if phrase.name not in self._texts]
        if unread:
            self._texts |= dict(zip(unread, self.embed(unread), strict=True))
        n, others = int(fires.sum()), int((~fires).sum())
        return [
            NameCandidate(
                phrase.name,
                self.embeddings @ self._texts[phrase.name],
                f"in {phrase.inside} captions of {n} firing images and {phrase.outside} of {others} others, "
                f"log-odds z {phrase.z:.1f}",
            )
            for phrase in found
        ]


class Attributes:
    """The attributes that the data give for the images, and the images' colours, by AUROC.

    Args:
        factors: factor -> (its values, `[n]` int64 index into them, -1 for none).
        statistics: name -> `[n]` numbers of the images; both directions are tried.
        halves: of the images.
        min_auroc: least AUROC of a candidate on the images that choose.
    """

    title = "columns"

    def __init__(
        self, factors: Factors, statistics: dict[str, Tensor], halves: Halves, min_auroc: float = 0.8
    ) -> None:
        self.scores = {
            f"{factor}: {value}": (truth == i).float()
            for factor, (values, truth) in factors.items()
            for i, value in enumerate(values)
        }
        self.scores |= {name: values.float() for name, values in statistics.items()}
        self.halves, self.min_auroc = halves, min_auroc

    def candidates(self, fires: Tensor) -> list[NameCandidate]:
        """Return the attributes that tell the firing images from others."""
        found = []
        for name, scores in self.scores.items():
            tells = float(auroc(scores[self.halves.choosing], fires))
            if tells >= self.min_auroc:
                found.append(NameCandidate(name, scores, f"AUROC {tells:.2f} on the images that chose it"))
        return found
