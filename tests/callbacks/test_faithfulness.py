"""The faithfulness callback: when it measures, and that its numbers are the library's on the probe."""

from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from PIL import Image

from callbacks.attribution import Attribution
from callbacks.base import Pass
from callbacks.faithfulness import Faithfulness
from lightning_sae.attribution.explained import Explained
from lightning_sae.attribution.faithfulness import measure
from lightning_sae.attribution.methods import Ablation, ActGrad, Activation, Random
from lightning_sae.classifiers.scores import make_score
from lightning_sae.data import choose_probe

MIDDLE = ("visual.transformer.resblocks.1", "patch")


def made(**arguments):
    methods = {"ablation": Ablation(), "act_grad": ActGrad(), "activation": Activation()}
    return Faithfulness(methods, **{"n_images": 30, "steps": 4} | arguments)


@pytest.fixture(scope="module")
def run(fit, tmp_path_factory):
    callbacks = {"attribution": Attribution(output="logit"), "faithfulness": made(every=2)}
    return fit(tmp_path_factory.mktemp("run"), callbacks, max_steps=48)


def logged(run):
    return {k: float(v) for k, v in run.trainer.callback_metrics.items() if k.startswith("faithfulness/")}


@torch.no_grad()
def by_hand(run, output, n_images=30, steps=4):
    """Evidence on the class-balanced probe images, put together here."""
    data, sae = run.data, run.module.sae
    rows = choose_probe(data.probe.targets, n_images, data.probe_seed)
    x, context = data.probe.x[rows], None if data.probe.context is None else data.probe.context[rows]
    x_hat, latents = sae(x.flatten(0, 1))
    cosines = data.tail(x, context) @ data.class_embeddings.T
    score = make_score(
        data.class_embeddings,
        output=output,
        targets=cosines.argmax(1),
        logit_scale=data.clip.logit_scale,
    )
    explained = Explained(data.tail, sae.W_dec, x, x_hat.view_as(x), latents, context)
    return measure(explained, score, made().methods, "ablation", steps)


def test_the_logged_values_are_means_over_the_probe(run):
    evidence = by_hand(run, "logit")  # the attribution callback's output
    deletion, insertion = (areas.mean(0) / evidence.span.mean() for areas in evidence.areas())
    expected = {}
    for k, name in enumerate(("ablation", "act_grad", "activation")):
        expected[f"faithfulness/{name}_deletion"] = float(deletion[k])
        expected[f"faithfulness/{name}_insertion"] = float(insertion[k])
        expected[f"faithfulness/{name}_rank_correlation"] = float(evidence.correlation[:, k].nanmean())
    del expected["faithfulness/ablation_rank_correlation"]
    assert logged(run) == pytest.approx(expected, abs=1e-4)


def test_the_run_folder_has_the_table_and_the_picture(run):
    table = pd.read_csv(run.folder / "faithfulness.csv").set_index("method")
    assert list(table.index) == ["ablation", "act_grad", "activation"]
    for kind in ("deletion", "insertion", "rank_correlation"):
        for name, row in table.iterrows():
            if (kind, name) != ("rank_correlation", "ablation"):
                assert row[kind] == pytest.approx(logged(run)[f"faithfulness/{name}_{kind}"], abs=1e-4)
            assert row[f"{kind}_low"] <= row[kind] <= row[f"{kind}_high"]
    assert table.loc["act_grad", "deletion_difference_high"] == 0
    assert Image.open(run.folder / "pictures" / "faithfulness.png").size[0] > 1000
    assert not list(run.folder.rglob("*.part"))


def test_a_middle_layer_and_an_output_of_its_own(fit, tmp_path):
    run = fit(tmp_path, {"faithfulness": made(output="cosine", n_images=12)}, *MIDDLE, max_steps=4)
    evidence = by_hand(run, "cosine", n_images=12)
    for found, areas in zip(run.find(Faithfulness).evidence.areas(), evidence.areas(), strict=True):
        assert areas.isfinite().all()
        torch.testing.assert_close(found, areas, rtol=1e-3, atol=1e-4)
    # an SAE so young may span a negative score, in whose units nothing can be said
    unit = evidence.span.mean().where(evidence.span.mean() > 0, torch.nan)
    deletion, insertion = (float(areas[:, 1].mean() / unit) for areas in evidence.areas())
    found = logged(run)
    assert found["faithfulness/act_grad_deletion"] == pytest.approx(deletion, abs=1e-3, nan_ok=True)
    assert found["faithfulness/act_grad_insertion"] == pytest.approx(insertion, abs=1e-3, nan_ok=True)


@pytest.mark.parametrize(
    ("every", "max_steps", "passes"), [(1, 8, [4, 8]), (2, 16, [8, 16]), (3, 16, [12, 16]), (9, 8, [8])]
)
def test_it_measures_at_every_nth_pass_and_at_the_last_step(fit, tmp_path, every, max_steps, passes):
    fit(tmp_path, {"faithfulness": made(every=every, n_images=8)}, max_steps=max_steps)
    curve = pd.read_csv(tmp_path / "metrics.csv").dropna(subset="faithfulness/act_grad_deletion")
    assert [step + 1 for step in curve["step"]] == passes


def test_the_sanity_check_leaves_nothing(fit, tmp_path):
    run = fit(tmp_path, {"faithfulness": made(every=1)}, max_steps=0, num_sanity_val_steps=-1)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not logged(run)


def test_validate_gives_what_fit_gave(run):
    fitted, table = logged(run), (run.folder / "faithfulness.csv").read_text()
    (validated,) = run.trainer.validate(run.module, datamodule=run.data, verbose=False)
    assert {key: validated[key] for key in fitted} == pytest.approx(fitted)
    assert (run.folder / "faithfulness.csv").read_text() == table


def test_a_resumed_run_goes_on_counting():
    first, second = made(), made()
    first.passes = 3
    second.load_state_dict(first.state_dict())
    assert second.passes == 3


def test_ranks_share_the_images(run, monkeypatch):
    monkeypatch.setattr("callbacks.faithfulness.CHUNK", 5)
    callback = run.find(Faithfulness)
    strategy = SimpleNamespace(reduce=lambda tensor, reduce_op: tensor)

    def measured(rank, world_size):
        trainer = SimpleNamespace(strategy=strategy, global_rank=rank, world_size=world_size)
        pass_ = Pass(run.trainer, run.module)
        pass_.trainer = trainer
        with torch.no_grad():
            return callback._measure(pass_)

    whole, *parts = measured(0, 1), measured(0, 2), measured(1, 2)
    for found, *shares in zip(whole, *parts, strict=True):
        assert all((share == 0).flatten(1).all(1).sum() >= 15 for share in shares)
        torch.testing.assert_close(sum(shares), found, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"every": 0}, "at least 1, got 0, 30, 4"),
        ({"output": "logits"}, "output must be one of"),
        ({"reference": "gradient"}, "reference must be one of the methods ablation, act_grad, activation"),
        ({"truth": "gradient"}, "truth must be one of the methods"),
    ],
)
def test_arguments_that_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        made(**arguments)


def test_a_method_that_knows_nothing_is_in_between(fit, tmp_path):
    methods = {"ablation": Ablation(), "random": Random()}
    callback = Faithfulness(methods, reference="ablation", n_images=64, steps=6)
    found = logged(fit(tmp_path, {"faithfulness": callback}))
    assert found["faithfulness/ablation_deletion"] < found["faithfulness/random_deletion"]
    assert found["faithfulness/ablation_insertion"] > found["faithfulness/random_insertion"]
    assert abs(found["faithfulness/random_rank_correlation"]) < 0.3
