"""What a pass hands from callback to callback, and which lists of callbacks are refused."""

from typing import NamedTuple

import pytest
import torch

from callbacks.alignment import Alignment
from callbacks.attribution import Attribution
from callbacks.base import GIVERS, Pass, PassCallback
from callbacks.baselines import Baselines
from callbacks.faithfulness import Faithfulness
from callbacks.gallery import Gallery
from callbacks.latent_table import LatentTable
from callbacks.probe_vs_prompt import ProbeVsPrompt
from callbacks.quality import Quality
from callbacks.reliance import UnexpectedReliance
from callbacks.summary import Summary
from lightning_sae.attribution.methods import Ablation, ActGrad
from lightning_sae.concepts.alignment import concept_vectors
from lightning_sae.concepts.concept_labels import ConceptLabels
from lightning_sae.concepts.vocabulary import Vocabulary


class Count(NamedTuple):
    """A result."""

    n: int


class Counter(PassCallback):
    """Gives how many images the pass had, in each turn."""

    gives = Count

    def __init__(self, every=1):
        self.every, self.n = every, 0

    def begin(self, pass_):
        self.n = 0

    def add(self, pass_, images):
        self.n += len(images.image_ids)

    def finish(self, pass_):
        return Count(self.n)


class Listener(PassCallback):
    """Takes the count, if there is one."""

    uses = (Count,)

    def __init__(self):
        self.heard = []

    def finish(self, pass_):
        self.heard.append(pass_.get(Count))


class Needer(PassCallback):
    """Needs the count."""

    needs = (Count,)

    def finish(self, pass_):
        assert pass_[Count].n


class Numbered(PassCallback):
    """A labeller of the user: every latent that has images is called by its number."""

    gives = ConceptLabels

    def finish(self, pass_):
        known = (pass_.top_ids[:, 0] >= 0).tolist()
        labels = [f"number {j}" if k else "" for j, k in enumerate(known)]
        vectors = concept_vectors(pass_.top_ids, pass_.data.judge_embeddings)
        self.concepts = ConceptLabels(vectors, labels, known, ["{}"], {"label": labels, "named": known})
        return self.concepts

    def latent_columns(self):
        return dict(self.concepts.columns)


def reliance():
    return UnexpectedReliance(min_images=3, level=0.1, draws=50)


def comparison():
    return ProbeVsPrompt("colour", shares=[0.2], images_per_class=2)


def made(*callbacks):
    return {str(number): callback for number, callback in enumerate(callbacks)}


@pytest.mark.parametrize(
    ("callbacks", "needer", "giver", "result"),
    [
        (lambda: [Alignment(Vocabulary()), reliance()], "reliance", "attribution", "ClassAttribution"),
        (lambda: [Attribution(), reliance()], "reliance", "alignment", "ConceptLabels"),
        (
            lambda: [Alignment(Vocabulary()), reliance(), Attribution()],
            "reliance",
            "attribution",
            "ClassAttribution",
        ),
        (
            lambda: [Alignment(Vocabulary()), Attribution(), comparison()],
            "probe_vs_prompt",
            "reliance",
            "ClassReliance",
        ),
        (lambda: [Quality(), Alignment(Vocabulary())], "quality", "alignment", "ConceptLabels"),
        (
            lambda: [Faithfulness({"act_grad": ActGrad(), "ablation": Ablation()}), Attribution()],
            "faithfulness",
            "attribution",
            "ClassAttribution",
        ),
    ],
)
def test_a_giver_that_is_missing_or_late_is_named(fit, tmp_path, callbacks, needer, giver, result):
    message = (
        f"callbacks.{needer} needs {result}, which callbacks.{giver} gives: list it before, "
        f"or leave {needer} out with ~callbacks.{needer}"
    )
    with pytest.raises(ValueError, match=message):
        fit(tmp_path, made(*callbacks()), max_steps=4)


def test_two_givers_of_one_result_are_refused(fit, tmp_path):
    with pytest.raises(ValueError, match=r"and callbacks\.alignment both give ConceptLabels: leave one out"):
        fit(tmp_path, made(Numbered(), Alignment(Vocabulary())), max_steps=4)


def test_it_is_refused_before_anything_is_captured(train_py, tmp_path):
    store = tmp_path / "store"
    given = [f"data.store_dir={store}", f"hydra.run.dir={tmp_path / 'run'}", "trainer.accelerator=cpu"]
    said = train_py("~callbacks.attribution", *given)
    assert "callbacks.reliance needs ClassAttribution, which callbacks.attribution gives" in said
    assert not store.exists()


def test_each_result_is_given_by_the_callback_that_is_named():
    for giver in (Alignment, Attribution, UnexpectedReliance, ProbeVsPrompt, Baselines):
        assert GIVERS[giver.gives] == giver.__module__.removeprefix("callbacks.")
    assert len(GIVERS) == 5


def test_a_result_of_an_earlier_pass_is_never_used(fit, tmp_path):
    listener = Listener()
    fit(tmp_path, made(Counter(every=2), listener), max_steps=12)  # passes at 4, 8 and the last, 12
    assert listener.heard == [None, Count(160), Count(160)]
    with pytest.raises(ValueError, match="no Count in this pass: its giver has to run in every one"):
        fit(tmp_path, made(Counter(every=2), Needer()), max_steps=12)


def test_callbacks_share_one_pass_and_its_turns(fit, tmp_path):
    callbacks = [Counter(every=0), Listener(), Counter(every=3)]
    run = fit(tmp_path, made(callbacks[0], callbacks[1]), max_steps=12, num_sanity_val_steps=1)
    assert callbacks[1].heard == [None, None, Count(160)]
    assert callbacks[0].current is callbacks[1].current
    assert callbacks[0].state_dict() == {"passes": 3}
    run.trainer.validate(run.module, datamodule=run.data, verbose=False)
    assert callbacks[1].heard[3:] == [Count(160)]
    assert callbacks[0].passes == 3  # of the training


def test_what_is_given_is_what_was_promised(fit, tmp_path, monkeypatch):
    monkeypatch.setattr(Counter, "finish", lambda self, pass_: self.n)
    with pytest.raises(TypeError, match="gives Count, but finish returned int"):
        fit(tmp_path, made(Counter()), max_steps=4)


def test_the_probe_is_added_where_a_batch_is_not_enough(fit, tmp_path):
    listener = Listener()
    fit(tmp_path, made(Counter(), listener), "visual.transformer.resblocks.1", "patch", max_steps=4)
    assert listener.heard == [Count(72)]


def test_images_come_again_as_they_were_added(fit, tmp_path):
    class Again(PassCallback):
        needs_latents = True

        def begin(self, pass_):
            self.added = []

        def add(self, pass_, images):
            self.added.append(images)

        def finish(self, pass_):
            for first, second in zip(self.added, pass_.all_images(), strict=True):
                assert torch.equal(first.image_ids, second.image_ids)
                assert torch.equal(first.targets, second.targets)
                assert torch.equal(first.explained.latents.to_dense(), second.explained.latents.to_dense())
                torch.testing.assert_close(first.explained.x_hat, second.explained.x_hat)

    for layer in (("visual.transformer.resblocks.3", "cls"), ("visual.transformer.resblocks.1", "patch")):
        fit(tmp_path, made(Again()), *layer, max_steps=4)


def test_a_labeller_of_the_user_takes_the_place_of_alignment(fit, tmp_path):
    drawn = (Gallery(rows=3), LatentTable(), Summary())
    run = fit(tmp_path, made(Numbered(), Quality(), Attribution(), reliance(), *drawn))
    attribution = (tmp_path / "attribution.csv").read_text().splitlines()
    assert all("number " in row for row in attribution[1:])
    culprits = run.find(UnexpectedReliance).table
    assert culprits["label"].tolist() == [f"number {j}" for j in culprits["latent"]]
    assert culprits["named"].all()
    assert "alignment/churn" in run.trainer.callback_metrics


def test_a_pass_knows_the_last_of_a_training(fit, tmp_path):
    class Ends(PassCallback):
        def __init__(self):
            self.found = []

        def begin(self, pass_):
            self.found.append((pass_.fitting, pass_.is_last))

    ends = Ends()
    run = fit(tmp_path, made(ends), max_steps=6)
    assert ends.found == [(True, False), (True, True)]
    run.trainer.validate(run.module, datamodule=run.data, verbose=False)
    assert not ends.found[-1][0]
    assert Pass(run.trainer, run.module).data is run.data
