"""The server's answers about an image of the run or of a user: its latents, and the scores without them."""

from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from lightning_sae.attribution.ablation import remove_shares
from lightning_sae.attribution.explained import Explained
from lightning_sae.attribution.methods import attribute_own
from lightning_sae.classifiers.classifier import Classifier
from lightning_sae.clip import capture_context, make_tail
from lightning_sae.clip.sight import as_clip_sees
from lightning_sae.data import decode
from lightning_sae.explain.explanation import check_request
from lightning_sae.explorer.images import strongest
from lightning_sae.explorer.removal import likely_classes, logits_without
from lightning_sae.explorer.seen import has_classes
from lightning_sae.report import plain, webp_uri
from lightning_sae.report.thumbnails import thumbnail
from lightning_sae.runs.classifier import prompt_classifier
from lightning_sae.runs.folder import RunFolder

KEPT = 16  # images of a user, the last ones
LATENTS = 24  # of an image
CLASSES = 32
SIDE = 336  # pixels of a picture
LARGEST = 2048  # pixels of the side of an image that is kept


class Answers:
    """Answers questions about images of a run and of a user.

    An image is named by its number among the validation images, or by the name that `keep` gave it.

    Args:
        run: an opened run on images.

    Raises:
        ValueError: the run is on texts, which no image reaches.
    """

    def __init__(self, run: RunFolder) -> None:
        if run.data.clip.reads_texts:
            raise ValueError(f"{run.folder} has latents of texts, and no image reaches {run.data.hook}")
        self.run, self.tail = run, make_tail(run.data.clip, run.data.hook)
        self._own: OrderedDict[str, Image.Image] = OrderedDict()
        self._kept = 0
        self._explained = lru_cache(KEPT)(self._explain)

    def keep(self, content: bytes) -> str:
        """Keep an image of a user for further questions, and return its name.

        Raises:
            BadImageError: the content is no image.
        """
        picture = decode(content, "the image", background=self.run.data.background)
        picture.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
        self._kept += 1
        name = f"own-{self._kept}"
        self._own[name] = picture
        if len(self._own) > KEPT:
            self._own.popitem(last=False)
        return name

    def describe(self, image: str, prompts: Sequence[str] = ()) -> dict[str, Any]:
        """Return what an image is, which latents drive its best score, and the scores without each of them.

        Args:
            image: its name.
            prompts: texts to score in place of the classes; without any the classes are scored.

        Returns:
            `title`, `picture`, `target` (class of the image, -1 for none), `classes` and `names` of the
            likeliest classes, `own` (place of the image's class among them, -1 for none), `latents` with
            their `activation`, `logits` of these classes, and `without`, the same logits without each latent.

        Raises:
            ValueError: there is no such image, an empty prompt, or neither prompts nor classes.
        """
        classifier = self._classifier(tuple(prompts))
        one, target = self._explained(image), self._target(image)
        whole = classifier.logits(one.tail(one.x, one.context))[0]
        latents = self._driving(one, classifier, int(whole.argmax()))
        logits = logits_without(one, latents, classifier)
        own = torch.tensor([-1 if prompts else target])
        chosen = likely_classes(logits[None].cpu(), min(CLASSES, len(whole)), own)[0]
        shown = logits[:, chosen.to(logits.device)].cpu()
        return {
            "title": f"image {image}" if image.isdigit() else "your image",
            "picture": webp_uri(thumbnail(as_clip_sees(self.run.data.clip, self._picture(image)), SIDE)),
            "target": target,
            "names": [plain(classifier.class_names[c]) for c in chosen.tolist()],
            "own": chosen.tolist().index(target) if target >= 0 and not prompts else -1,
            "latents": [{"latent": j, "activation": _largest(one, j)} for j in latents],
            "logits": shown[0].tolist(),
            "without": shown[1:].tolist(),
            "classes": chosen.tolist(),
        }

    def remove(
        self,
        image: str,
        prompts: Sequence[str],
        latents: Sequence[int],
        shares: Sequence[float],
        classes: Sequence[int],
    ) -> list[float]:
        """Return the logits of some classes when shares of latents are removed, exact at any layer.

        Args:
            image: its name.
            prompts: as for `describe`.
            latents: numbers of the latents.
            shares: the share of each latent to remove, in 0..1.
            classes: classes as `describe` returns them.

        Raises:
            ValueError: as `describe`, or a latent, share or class is out of range.
        """
        classifier, d_sae = self._classifier(tuple(prompts)), self.run.sae.d_sae
        if len({*latents}) != len(shares) or not all(0 <= j < d_sae for j in latents):
            raise ValueError(
                f"a share for each latent of 0..{d_sae - 1}, each once, got {latents} and {shares}"
            )
        if not all(0 <= share <= 1 for share in shares):
            raise ValueError(f"a share lies in 0..1, got {shares}")
        if not all(0 <= c < len(classifier.class_names) for c in classes):
            raise ValueError(f"a class is one of 0..{len(classifier.class_names) - 1}, got {classes}")
        embedding = remove_shares(self._explained(image), latents, shares)
        logits: list[float] = classifier.logits(embedding)[0, list(classes)].tolist()
        return logits

    def _classifier(self, prompts: tuple[str, ...]) -> Classifier:
        data = self.run.data
        if prompts:
            check_request(prompts, 1)
            texts = data.clip.encode_text(list(prompts)).float()
            return Classifier.of_prompts(prompts, [[p] for p in prompts], texts, data.clip.logit_scale)
        if not has_classes(data):
            raise ValueError("the data of this run have no classes: write prompts")
        return prompt_classifier(self.run)

    def _picture(self, image: str) -> Image.Image:
        if image in self._own:
            return self._own[image]
        images = self.run.data.images("val")
        if not (image.isascii() and image.isdigit() and int(image) < len(images)):
            raise ValueError(f"there is no image {plain(image)}: a number in 0..{len(images) - 1}")
        return images[int(image)]

    def _target(self, image: str) -> int:
        self._picture(image)
        return int(self.run.data.images("val").targets[int(image)]) if image.isdigit() else -1

    @torch.no_grad()
    def _explain(self, image: str) -> Explained:
        data = self.run.data
        pixels = data.clip.preprocess(self._picture(image))[None].to(data.clip.device)
        x, context = capture_context(data.clip, data.hook, self.tail, pixels)
        return Explained.of(self.tail, self.run.sae, x, context)

    def _driving(self, one: Explained, classifier: Classifier, c: int) -> list[int]:
        """Return the latents with the largest attributions to a class."""
        totals = attribute_own(one, classifier.scores("logit"), torch.tensor([c], device=one.x.device))
        found = strongest(totals, totals.values.abs(), torch.tensor([0]), LATENTS).latents[0]
        return [j for j in found.tolist() if j >= 0]


def _largest(one: Explained, latent: int) -> float:
    values: Tensor = one.latents.values[one.latents.indices == latent]
    return round(float(values.max()), 4)
