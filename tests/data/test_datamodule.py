import inspect
import json
import warnings
from pathlib import Path

import lightning
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch.nn.functional import normalize

from lightning_sae import data as data_sets
from lightning_sae.data import ActivationDataModule, choose_probe
from lightning_sae.data.prompts import class_prompts, embed_prompts, read_prompts

LAST, MIDDLE = "visual.transformer.resblocks.1", "visual.transformer.resblocks.0"
CONF = Path(__file__).parents[2] / "conf" / "data"


@pytest.fixture
def make(noise, clip, tmp_path):
    def make(hook_point=LAST, tokens="cls", **settings):
        settings = {"store_dir": str(tmp_path / "store"), "batch_size": 8, "n_probe": 7} | settings
        return ActivationDataModule(noise, clip, hook_point, tokens, **settings)

    return make


def ready(data):
    data.prepare_data()
    data.setup("fit")
    return data


@pytest.mark.parametrize("captured", [False, True])
def test_it_can_be_printed(make, captured):
    data = ready(make(tokens="all")) if captured else make(tokens="all")
    assert str(data).startswith("noise by tiny-")
    assert str(data).endswith(" at visual.transformer.resblocks.1:all")


@pytest.mark.parametrize("broken", ["clip", "judge"])
def test_a_text_tower_of_nan_is_refused_before_the_capture(make, clip, judge, tmp_path, broken):
    spoiled = {"clip": clip, "judge": judge}[broken]
    hook = spoiled.text_features.register_forward_hook(lambda module, args, output: output * torch.nan)
    try:
        with pytest.raises(ValueError, match="1 of 1 texts have NaN embeddings by the text tower"):
            make(judge=judge).prepare_data()
    finally:
        hook.remove()
    assert not (tmp_path / "store").exists()


def test_what_it_offers(make, judge, clip, noise):
    data = ready(make(judge=judge))
    assert data.judge_independent
    assert (data.d_in, data.shape.tokens) == (16, 1)
    assert data.statistics.n_tokens == len(noise)
    assert data.class_names == ["cat", "dog", "owl"]
    assert data.class_embeddings.shape == (3, clip.embed_dim)
    assert data.images("val").seed == 1
    pixels = torch.stack([clip.preprocess(image) for image in map(data.images("val").__getitem__, range(22))])
    with torch.no_grad():
        torch.testing.assert_close(data.judge_embeddings, judge.encode_image(pixels), atol=1e-5, rtol=1e-4)
        (batch,) = data.val_dataloader()
        torch.testing.assert_close(batch.embeddings, clip.encode_image(pixels), atol=1e-5, rtol=1e-4)
    assert torch.cat([*data.train_batches()]).equal(data.store.rows(0, len(data.store)))
    provenance = data.provenance()
    assert provenance["clip"] == clip.identity()
    assert (provenance["hook_point"], provenance["tokens"]) == (LAST, "cls")
    json.dumps(provenance)


@pytest.mark.parametrize(
    ("hook_point", "tokens"), [(LAST, "cls"), (MIDDLE, "patch"), (MIDDLE + ".mlp", "all")]
)
def test_the_tail_of_the_probe_gives_the_embeddings(make, judge, hook_point, tokens):
    data = ready(make(hook_point, tokens, judge=judge))
    with torch.no_grad():
        found = data.tail(data.probe.x, data.probe.context)
    (batch,) = data.val_dataloader()
    images = batch.embeddings[:: data.shape.tokens]
    torch.testing.assert_close(found, images[data.probe.image_ids], atol=1e-5, rtol=1e-4)
    assert sorted(data.probe.targets.bincount().tolist()) == [2, 2, 3]


def test_without_a_judge_it_warns_and_says_so(make, clip):
    with pytest.warns(UserWarning, match="clip@data.judge=open_clip"):
        data = ready(make())
    assert not data.judge_independent
    (batch,) = data.val_dataloader()
    assert data.judge_embeddings.equal(batch.embeddings)


def test_another_judge_recaptures_nothing_of_the_audited_clip(make, clip, judge, monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        make().prepare_data()
    assert judge.embed_dim  # which it learns from an image
    seen, encode = [], judge.encode_image
    monkeypatch.setattr(clip, "encode_image", None)
    monkeypatch.setattr(judge, "encode_image", lambda pixels: seen.append(len(pixels)) or encode(pixels))
    data = make(judge=judge)
    monkeypatch.setattr("lightning_sae.data.datamodule.inspect_hook_point", lambda clip, hook: None)
    data.prepare_data()
    assert sum(seen) == 22


def test_the_test_split_is_captured_on_demand_and_further_hook_points_ride_along(make, judge, tmp_path):
    data = ready(make(judge=judge, also_capture=[MIDDLE]))
    assert len([*(tmp_path / "store").glob(f"*/{MIDDLE}-cls/manifest.json")]) == 2
    before = len([*(tmp_path / "store").iterdir()])
    (batch,) = data.test_dataloader()
    assert len(batch.x) == 22
    assert len([*(tmp_path / "store").iterdir()]) == before + 1


class Toy(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def training_step(self, batch, index):
        return self.weight * batch.x.mean()

    def validation_step(self, batch, index):
        self.seen += batch.image_ids.tolist()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.filterwarnings("ignore")
def test_in_a_trainer(make, judge, noise):
    module, data = Toy(), make(judge=judge)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(
        accelerator="cpu", max_epochs=2, num_sanity_val_steps=0, enable_model_summary=False, **quiet
    )
    trainer.fit(module, data)
    assert trainer.global_step == 2 * (len(noise) // 8)
    assert module.seen == [*range(22)] * 2
    trainer.validate(module, data, verbose=False)
    assert len(module.seen) == 66


def test_a_checkpoint_of_other_activations_is_refused(make, noise, clip, judge):
    state = make().state_dict()
    make().load_state_dict({**state, "library_version": "0.0.1"})
    with pytest.raises(ValueError, match=r"trained on other activations.*tokens 'cls' -> 'patch'"):
        make(MIDDLE, "patch").load_state_dict(state)
    with pytest.raises(ValueError, match=r"trained on other activations.*clip\.weights"):
        ActivationDataModule(noise, judge, LAST).load_state_dict(state)


def test_text_tokens_are_refused(make):
    with pytest.raises(ValueError, match="use one of cls, patch, all, pooled"):
        make(tokens="eot").check()


def test_class_embeddings_are_unit_means_over_prompts(clip):
    prompts = [["a cat", "a photo of a cat"], ["a dog"]]
    found = embed_prompts(clip, prompts)
    cat = normalize(clip.encode_text(prompts[0]).mean(0), dim=-1)
    torch.testing.assert_close(found, torch.stack([cat, clip.encode_text(["a dog"])[0]]))


@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_prompts_from_a_file(tmp_path, suffix):
    path = tmp_path / f"prompts.{suffix}"
    content = {"dog": "a dog", "cat": ["a cat", "felis"]}
    path.write_text(json.dumps(content) if suffix == "json" else OmegaConf.to_yaml(content))
    assert class_prompts(["cat", "dog"], ["{}"], path) == [["a cat", "felis"], ["a dog"]]
    with pytest.raises(ValueError, match=r"lacks \['owl'\] and has unknown \['dog'\]"):
        class_prompts(["cat", "owl"], ["{}"], path)


def test_classes_of_a_file_are_called_as_they_are_written(tmp_path):
    path = tmp_path / "prompts.yaml"
    path.write_text("no: [no]\n007: [1e3, 12:30]\n'1': a\n")
    assert read_prompts(path) == (["no", "007", "1"], [["no"], ["1e3", "12:30"], ["a"]])


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.yaml", "cat: [a]\ndog: [b]\ncat: [c]\n", "line 3: the key 'cat' stands there twice"),
        ("a.json", '{"cat": ["a"], "cat": ["b"]}', "the key 'cat' stands there twice"),
        ("a.yaml", "cat: {a: b}\n", "prompts of 'cat' must be a list of texts, got {'a': 'b'}"),
        ("a.json", '{"cat": [1]}', r"prompts of 'cat' must be a list of texts, got \[1\]"),
        ("a.json", '{"cat": 1}', "prompts of 'cat' must be a list of texts, got 1"),
        ("a.json", '{"cat": ["a \\ud800"]}', r"holds 'a \\ud800', which has half of a character"),
        ("a.JSON", '{"cat": ["a"', "line 1: no JSON"),
        ("a.yaml", "cat:\n", "no prompts for cat"),
        ("a.json", "{}", "is empty"),
    ],
)
def test_prompts_that_are_none_are_named(tmp_path, name, content, said):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=rf"{name}.*{said}"):
        read_prompts(tmp_path / name)


@pytest.mark.parametrize("templates", [[], ["a photo"]])
def test_bad_templates(templates):
    with pytest.raises(ValueError, match="templates must be at least one text with"):
        class_prompts(["cat"], templates)


def test_probe_is_balanced_and_fixed():
    targets = torch.tensor([0] * 50 + [1] * 5 + [2] * 3)
    ids = choose_probe(targets, 12, seed=0)
    assert targets[ids].bincount()[2] == 3
    assert sorted(targets[ids].bincount()[:2].tolist()) == [4, 5]
    assert ids.equal(choose_probe(targets, 12, seed=0))
    assert not ids.equal(choose_probe(targets, 12, seed=1))
    assert len(choose_probe(targets, 1000, seed=0)) == 58


def test_the_seed_of_a_training_changes_no_image(make):
    first, other, chosen = (ready(make(**seeds)) for seeds in ({}, {"seed": 1}, {"probe_seed": 1}))
    assert first.probe.image_ids.equal(other.probe.image_ids)
    assert not first.probe.image_ids.equal(chosen.probe.image_ids)
    assert first.data_identity() == other.data_identity()
    assert not torch.equal(next(iter(first.train_dataloader())).x, next(iter(other.train_dataloader())).x)


@pytest.mark.parametrize("name", ["world", "image_folder", "fashion_mnist", "table", "huggingface"])
def test_the_yaml_states_the_defaults_of_the_signatures(name):
    files = [CONF / "base" / "activations.yaml", CONF / f"{name}.yaml"]
    keys = OmegaConf.to_container(OmegaConf.merge(*map(OmegaConf.load, files)))
    parameters = {
        **inspect.signature(ActivationDataModule).parameters,
        **inspect.signature(getattr(data_sets, name)).parameters,
    }
    given = {key: value for key, value in keys.items() if key not in ("defaults", "_target_")}
    open_ones = {"clip", "hook_point", "hook_points", "tokens", "seed", "root", "path"}  # or up to the user
    assert {*given} == {*parameters} - {"images", "activations"}
    open_ones -= {"root"} if name == "table" else set()
    for key in {*given} - open_ones:
        default = parameters[key].default
        assert given[key] == (list(default) if isinstance(default, tuple) else default), key


@pytest.mark.parametrize(
    "overrides",
    [
        ["data=world"],
        ["data=image_folder", "data.root=x"],
        ["data=fashion_mnist", "data.root=x"],
        ["data=table", "data.path=x"],
        ["data=huggingface", "data.path=x"],
    ],
)
def test_the_judge_is_replaced_from_the_command_line(overrides):
    judge = ["clip@data.judge=open_clip", "data.judge.model=RN50", "data.judge.pretrained=openai"]
    with initialize_config_dir(str(CONF.parent), version_base="1.3"):
        named = compose("train", [*overrides, *judge]).data
        assert (named.judge.model, named.judge.pretrained) == ("RN50", "openai")
        assert named.clip == compose("train", overrides).clip
        assert compose("train", [*overrides, "~clip@data.judge"]).data.judge is None


def test_a_sample_is_of_random_rows_each_once(make, judge):
    data = ready(make(judge=judge))
    rows = torch.cat(list(data.train_batches()))
    sample = data.sample(7)
    assert torch.equal(sample, data.sample(20)[:7])
    places = [(rows == row).all(1).nonzero().flatten().tolist() for row in sample]
    assert all(places)
    assert len({str(place) for place in places}) == 7
    assert len(data.sample(10**6)) == len(rows)


def test_processes_of_a_machine_share_its_cores(make, judge):
    data = make(judge=judge)
    assert {capture.processes for capture in data.captures().values()} == {1}
    data.processes = 4  # as an engine sets it
    assert {capture.processes for capture in data.captures().values()} == {4}
    data.trainer = lightning.Trainer(accelerator="cpu", devices=2, logger=False, enable_checkpointing=False)
    assert {capture.processes for capture in data.captures().values()} == {2}
