"""The reliance callback, against brute force: the random sets, the definition, and the edited images."""

import math

import pandas as pd
import pytest
import torch
from scipy.stats import norm

from callbacks.alignment import Alignment
from callbacks.attribution import Attribution
from callbacks.reliance import UnexpectedReliance
from lightning_sae.concepts.vocabulary import Vocabulary
from lightning_sae.metrics import auroc
from lightning_sae.tracking.csv_logger import RunCSVLogger

D_SAE = 96
LEVEL = 0.1


def made(reliance, **attribution):
    return {
        "alignment": Alignment(Vocabulary()),
        "attribution": Attribution(**attribution),
        "reliance": reliance,
    }


@pytest.fixture(scope="module")
def run(fit, tmp_path_factory):
    callbacks = made(
        UnexpectedReliance(min_images=3, level=0.1, draws=100, min_group=2, top=4), output="logit"
    )
    return fit(tmp_path_factory.mktemp("run"), callbacks)


@pytest.fixture(scope="module")
def culprits(run):
    return pd.read_csv(run.folder / "reliance.csv")


@pytest.fixture(scope="module")
def groups(run):
    return pd.read_csv(run.folder / "reliance_groups.csv", keep_default_na=False)


def tops(run):
    return run.module.top_images.compute()[1]


def by_hand(run):
    """`u [C, d_sae]`, and where other draws could decide otherwise, from the judge's embeddings."""
    data, means = run.data, run.find(Attribution).means
    names, embeddings = data.judge.encode_text(data.class_names), data.judge_embeddings
    targets, cosines = data.images("val").targets, embeddings @ names.T
    _, dense, _ = everything(run)
    u, unsure = torch.zeros(len(names), D_SAE), torch.zeros(len(names), D_SAE, dtype=torch.bool)
    orders = [torch.randperm(len(embeddings), generator=torch.Generator().manual_seed(i)) for i in range(400)]
    for j, ids in enumerate(tops(run)):
        ids = ids[ids >= 0]
        for c in range(len(names)) if len(ids) else ():
            mine, s = targets == c, cosines[:, c]
            own = embeddings[mine] @ embeddings[mine].T
            alike = s[mine][own.topk(min(len(ids), len(own))).indices].mean(1)
            random = torch.stack([s[order[: len(ids)]].mean() for order in orders])
            below = float(s[ids].mean()) < float(alike.min())
            asked = float(auroc(s, mine)) >= 0.8 and int(mine.sum()) >= 3
            active, n = float(auroc(dense[:, j], mine)), int(mine.sum())
            chance = 0.5 + float(norm.isf(LEVEL)) * math.sqrt((len(mine) + 1) / (12 * n * (len(mine) - n)))
            p = float((random >= s[ids].mean()).double().mean())
            foreign = asked and below and active < 0.8 and (p > LEVEL or active <= chance)
            r = float(means.mean[c, j].nan_to_num())
            u[c, j] = r if foreign and r > 0 and means.counts[c] >= 3 else 0.0
            unsure[c, j] = active > chance and abs(p - LEVEL) < 0.1
    return u, unsure


def everything(run):
    """Activations, dense latents and embeddings of the whole validation split."""
    x = torch.cat([batch.x for batch in run.data.val_dataloader()])
    with torch.no_grad():
        return x, run.module.sae.encode(x).to_dense(), run.data.tail(x[:, None])


def edited(run, latents):
    """Embeddings of all images without some latents."""
    x, dense, _ = everything(run)
    with torch.no_grad():
        return run.data.tail((x - dense[:, latents] @ run.module.sae.W_dec[latents])[:, None])


def test_u_and_its_share_are_their_definition(run):
    (u, unsure), reliance, means = (
        by_hand(run),
        run.find(UnexpectedReliance).reliance,
        run.find(Attribution).means,
    )
    assert unsure.double().mean() < 0.3
    torch.testing.assert_close(reliance.u[~unsure], u[~unsure], atol=1e-5, rtol=1e-4)
    judged = means.counts >= 3
    shares = (reliance.u.sum(1) / means.mean.clamp(min=0).sum(1))[judged]
    assert float(shares.max()) > 0
    logged = float(run.trainer.callback_metrics["attribution/unexpected_share"])
    assert logged == pytest.approx(float(shares.mean()), abs=1e-5)
    torch.testing.assert_close(reliance.share[judged], shares)


def test_the_table_names_the_largest_u_of_each_class(run, culprits):
    reliance, names = run.find(UnexpectedReliance), run.data.class_names
    u, meaning = reliance.reliance.u, reliance.meaning
    for name, rows in culprits.groupby("class", sort=False):
        c = names.index(name)
        best = u[c].topk(4)
        assert rows["latent"].tolist() == best.indices[best.values > 0].tolist()
        assert rows["attribution"].tolist() == pytest.approx(best.values[best.values > 0].tolist(), rel=1e-4)
        for key in ("agreement", "p_random", "p_class"):
            assert rows[key].tolist() == pytest.approx(
                getattr(meaning, key)[rows["latent"].tolist(), c].tolist(), abs=1e-5
            )
        assert meaning.foreign[rows["latent"].tolist(), c].all()
        assert rows["told"].tolist() == pytest.approx([float(meaning.told[c])] * len(rows))
    assert culprits["class_share"].is_monotonic_decreasing
    for row in culprits.head(3).itertuples():
        assert [int(i) for i in str(row.examples).split()] == [i for i in tops(run)[row.latent][:5] if i >= 0]


def test_the_effects_of_each_culprit_are_those_of_edited_images(run, culprits):
    _, _, whole = everything(run)
    texts, targets = run.data.class_embeddings, run.data.images("val").targets
    predicted = (whole @ texts.T).argmax(1)
    for row in culprits.itertuples():
        c = run.data.class_names.index(row._1)
        without = edited(run, [row.latent])
        for embeddings, suffix in ((whole, ""), (without, "_without")):
            scores = run.data.clip.logit_scale * embeddings @ texts[c]
            score = getattr(row, f"score{suffix}")
            assert score == pytest.approx(float(scores[predicted == c].mean()), rel=1e-3, abs=1e-3)
            hit = (embeddings @ texts.T).argmax(1) == c
            for measure, mine in {"accuracy": targets == c, "false_positives": targets != c}.items():
                expected = float(hit[mine].float().mean()) if mine.any() else math.nan
                assert getattr(row, measure + suffix) == pytest.approx(expected, abs=1e-4, nan_ok=True)


def test_the_groups_of_all_culprits_together(run, culprits, groups):
    texts, images = run.data.class_embeddings, run.data.images("val")
    _, _, whole = everything(run)
    together = groups[groups["removed"] == "all"]
    assert set(together["class"]) == set(culprits["class"])
    logged, changes = run.trainer.callback_metrics, []
    for name, rows in together.groupby("class"):
        c = run.data.class_names.index(name)
        without = edited(run, culprits[culprits["class"] == name]["latent"].tolist())
        hits = [(embeddings @ texts.T).argmax(1) == c for embeddings in (whole, without)]
        for row in rows[rows["measure"] != "score"].itertuples():
            group = (images.targets == c) == (row.measure == "accuracy")
            if row.factor:
                values, truth = images.factors[row.factor]
                group = group & (truth == values.index(row.value))
            assert row.images == int(group.sum())
            assert row.images >= 2 or not row.factor
            shares = [float(hit[group].float().mean()) for hit in hits]
            assert [row.as_it_is, row.without] == pytest.approx(shares, abs=1e-5)
        score = rows[rows["measure"] == "score"]
        changes.append(float((score["without"] - score["as_it_is"]).iloc[0]))
    assert float(logged["reliance/score_effect"]) == pytest.approx(sum(changes) / len(changes), abs=1e-3)
    assert float(logged["reliance/score_effect"]) < 0  # they drove their classes
    for key in ("accuracy", "worst_group", "false_positives"):
        assert f"reliance/{key}_effect" in logged


def test_only_the_worst_classes_are_ablated(fit, tmp_path):
    run = fit(tmp_path, made(UnexpectedReliance(min_images=3, level=0.1, draws=50, classes=2)), max_steps=4)
    table = run.find(UnexpectedReliance).table
    measured = table.dropna(subset="score_without")["class"].unique().tolist()
    assert measured == table["class"].unique().tolist()[:2]
    assert set(run.find(UnexpectedReliance).groups["class"]) == set(measured)


def test_no_class_can_be_ablated(fit, tmp_path):
    run = fit(tmp_path, made(UnexpectedReliance(min_images=3, level=0.1, draws=50, classes=0)), max_steps=4)
    assert pd.read_csv(tmp_path / "reliance.csv")["score"].isna().all()
    assert len(pd.read_csv(tmp_path / "reliance_groups.csv")) == 0
    assert "reliance/score_effect" not in run.trainer.callback_metrics


@pytest.mark.parametrize(("over", "tokens"), [("predicted", "patch"), ("true", "cls"), ("all", "cls")])
def test_a_middle_layer_is_ablated_on_the_probe(fit, tmp_path, over, tokens):
    callbacks = made(
        UnexpectedReliance(min_images=2, level=0.1, draws=50, top=2, probe_classes=2),
        output="logit",
        over=over,
    )
    run = fit(tmp_path, callbacks, "visual.transformer.resblocks.1", tokens, max_steps=4)
    probe, sae, tail = run.data.probe, run.module.sae, run.data.tail
    texts, scale = run.data.class_embeddings, run.data.clip.logit_scale
    n, t, d_in = probe.x.shape
    with torch.no_grad():
        dense = sae.encode(probe.x.view(-1, d_in)).to_dense()
        whole = tail(probe.x, probe.context)
    predicted = (whole @ texts.T).argmax(1)
    table = run.find(UnexpectedReliance).table.dropna(subset="score_without")
    assert table["class"].nunique() == 2
    for row in table.itertuples():
        c, j = run.data.class_names.index(row._1), row.latent
        x = probe.x - (dense[:, [j]] @ sae.W_dec[[j]]).view(n, t, d_in)
        with torch.no_grad():
            without = tail(x, probe.context)
        own = {"predicted": predicted == c, "true": probe.targets == c, "all": predicted >= 0}[over]
        for found, embeddings in ((row.score, whole), (row.score_without, without)):
            scores = scale * embeddings @ texts[c]
            assert found == pytest.approx(float(scores[own].mean()), rel=1e-3, abs=1e-3)


def test_validate_gives_what_fit_gave(run, culprits):
    logged = {k: float(v) for k, v in run.trainer.callback_metrics.items() if "reliance/" in k}
    run.trainer.loggers = [RunCSVLogger(str(run.folder / "again"))]
    (validated,) = run.trainer.validate(run.module, datamodule=run.data, verbose=False)
    assert {key: validated[key] for key in logged} == pytest.approx(logged, nan_ok=True)
    pd.testing.assert_frame_equal(pd.read_csv(run.folder / "reliance.csv"), culprits)


def test_a_pass_that_is_cut_short_is_about_the_images_it_saw(fit, tmp_path):
    callbacks = made(UnexpectedReliance(min_images=2, level=0.1, draws=50))
    run = fit(tmp_path, callbacks, max_steps=4, limit_val_batches=1)  # 70 images
    groups = run.find(UnexpectedReliance).groups
    whole = groups[(groups["factor"] == "") & (groups["measure"] != "score") & (groups["removed"] == "all")]
    assert (whole.groupby("class")["images"].sum() == 70).all()


@pytest.mark.parametrize("arguments", [{"top": 0}, {"draws": 0}, {"classes": -1}, {"probe_classes": -1}])
def test_arguments_that_cannot_be(arguments):
    with pytest.raises(ValueError, match="must be at least 1, classes and probe_classes"):
        UnexpectedReliance(**arguments)
