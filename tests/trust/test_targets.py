"""A configuration that came with a folder builds what is ours, and what its reader trusts; nothing else."""

import pickle
import shutil
import sys
import traceback
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image

from lightning_sae import fit_probe
from lightning_sae.audit import __main__ as audit_command
from lightning_sae.explain import __main__ as explain
from lightning_sae.runs.folder import open_run
from lightning_sae.training.settings import CONFIG
from lightning_sae.trust.targets import OURS, instantiate

CONF = Path(__file__).parents[2] / "conf"
WEIGHTS = {"_target_": "lightning_sae.world.weights_path", "edition": "biased"}


class Bomb:
    """What it is unpickled to writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.write_text, (self.path, "run")


@pytest.fixture
def mark(tmp_path):
    return tmp_path / "mark"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Of a user, on the path."""
    (tmp_path / "my_images.py").write_text(
        "import os, pickle\nfrom pathlib import Path\n"
        "class Mine:\n    def __init__(self, root): self.root = root\n"
        "    @classmethod\n    def of(cls, root): return cls(root)\n"
        "class Path2(Path().__class__): pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "my_images"
    sys.modules.pop("my_images", None)


@pytest.mark.parametrize("group", ["data", "clip", "labels"])
def test_every_data_set_clip_and_vocabulary_of_conf_may_be_named(group):
    for path in (CONF / group).glob("*.yaml"):
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = compose("train", [f"{group}={path.stem}"])
        nodes = [OmegaConf.to_container(config[name]) for name in ("data", "labels", "clip")]
        while nodes:
            node = nodes.pop()
            nodes += [child for child in node.values() if isinstance(child, dict)]
            assert node.get("_target_", "lightning_sae.world.config_path") in OURS


@pytest.mark.parametrize(
    "target",
    [
        *("pandas.read_pickle", "torch.load", "numpy.load", "joblib.load", "torch.hub.load"),
        *("pathlib.Path.write_text", "builtins.eval", "os.system", "subprocess.run"),
        "lightning_sae.data.sources.table.pd.read_pickle",  # by way of a module of ours
        "lightning_sae.data.image_folder.__globals__",
        "lightning_sae.files.write_atomic",  # ours, and writes
        "lightning_sae.sae.exchange.convert",
        "lightning_sae.explain.__main__.main",
        "lightning_sae.clip.load_clip ",
        *("lightning_sae", "", "${oc.env:HOME}", 7, None, ["lightning_sae.clip.load_clip"]),
    ],
    ids=str,
)
def test_whatever_else_is_refused_by_name_before_it_is_imported(target):
    nested = {"_target_": "lightning_sae.data.world", "judge": [{"deep": {"_target_": target, "x": 1}}]}
    with pytest.raises(ValueError, match=r"the configuration (names|has an escaped)") as caught:
        instantiate(OmegaConf.create({"data": nested}).data, trusted=())
    if isinstance(target, str) and target and "$" not in target:
        assert f"names {target}" in str(caught.value)
        assert f"--trust {target}" in str(caught.value)


def test_nothing_of_a_refused_configuration_is_imported(package):
    with pytest.raises(ValueError, match=r"my_images\.Mine"):
        instantiate({"_target_": "my_images.Mine", "root": "."}, trusted=())
    assert "my_images" not in sys.modules


@pytest.mark.parametrize("hidden", ["other", r"\${other}", r"\${oc.create:'{_target_: pandas.read_pickle}'}"])
def test_an_interpolation_hides_nothing(hidden):
    config = OmegaConf.create(
        {
            "other": {"_target_": "pandas.read_pickle", "filepath_or_buffer": "x"},
            "data": {"_target_": "lightning_sae.clip.load_clip", "model": hidden},
        }
    )
    config.data.model = "${other}" if hidden == "other" else hidden
    with pytest.raises(ValueError, match=r"names pandas\.read_pickle|an escaped interpolation"):
        instantiate(config.data, trusted=())


def test_an_interpolation_is_followed():
    config = OmegaConf.create({"edition": "balanced", "weights": {**WEIGHTS, "edition": "${edition}"}})
    assert instantiate(config.weights, trusted=()).name == "balanced.safetensors"


@pytest.mark.parametrize("trusted", [["my_images"], ["other", "my_images.Mine"], None])
def test_what_is_trusted_is_built(package, trusted):
    for target in ("my_images.Mine", "my_images.Mine.of"):
        assert instantiate({"_target_": target, "root": "here"}, trusted).root == "here"


@pytest.mark.parametrize(
    ("target", "trusted"),
    [
        ("my_images.Mine", ["my_image"]),  # no package begins in the middle of a word
        ("my_images.Mine", ["my_images.Other"]),
        ("my_images.os.system", ["my_images"]),  # what a package of yours imports is not of it
        ("my_images.pickle.load", ["my_images"]),
        ("my_images.Path2.write_text", ["my_images"]),  # nor what a class inherits
    ],
)
def test_what_is_not_of_the_trusted_package_is_refused(package, target, trusted):
    with pytest.raises(ValueError, match=target.replace(".", r"\.")):
        instantiate({"_target_": target, "root": "here"}, trusted)


@pytest.mark.parametrize("kind", ["lists", "texts", "itself"])
def test_interpolations_that_multiply_end_at_once(kind):
    levels = range(1, 30)
    data = {
        "lists": {"x0": [0] * 9} | {f"x{i}": [f"${{data.x{i - 1}}}"] * 9 for i in levels},
        "texts": {"x0": "lol"} | {f"x{i}": f"${{data.x{i - 1}}}" * 9 for i in levels},
        "itself": {"x": {"y": "${data.x}"}},
    }[kind]
    with pytest.raises(ValueError, match=r"add more than|interpolate too many|cannot be resolved"):
        instantiate(OmegaConf.create({"data": data}).data, trusted=())


def spoilt(run, folder, **changes):
    """A copy of a run, other values in its configuration; `None` takes one out."""
    shutil.copytree(run, folder)
    config = OmegaConf.load(folder / CONFIG)
    for key, value in changes.items():
        OmegaConf.update(config, key, value, merge=False)
        if value is None:
            del config[key]
    OmegaConf.save(config, folder / CONFIG)
    return folder


@pytest.mark.parametrize(
    "changes",
    [
        {"data": 5},
        {"data": None},
        {"data": {"a": 5}},
        {"data": [5]},
        {"data._partial_": True},
        {"data": {"_target_": "lightning_sae.world.config_path"}},
    ],
    ids=str,
)
def test_what_builds_no_data_is_refused(small_run, tmp_path, changes):
    with pytest.raises(
        ValueError, match=r"_target_ of data in .* must give an object of ActivationDataModule"
    ):
        open_run(spoilt(small_run, tmp_path / "run", **changes))


@pytest.mark.parametrize(
    ("moved", "kind", "message"),
    [
        ("clip.model=missing.json", FileNotFoundError, "no model config missing.json"),
        ("data.nothing=1", TypeError, "unexpected keyword argument 'nothing'"),
    ],
)
def test_what_goes_wrong_in_a_target_is_raised_as_it_is(small_run, moved, kind, message):
    """Without what Hydra wraps around it, in a notebook as in a command."""
    with pytest.raises(kind, match=message) as stop:
        open_run(small_run, [moved])
    assert "Error in call to target" not in "".join(traceback.format_exception(stop.value))
    with pytest.raises(SystemExit, match=f"^\n{kind.__name__}: .*{message}.*\n.HYDRA_FULL_ERROR=1"):
        audit_command.main([str(small_run), moved])


@pytest.mark.parametrize("labels", [5, None, {"a": 5}])
def test_what_builds_no_vocabulary_is_refused(small_run, tmp_path, labels):
    run = open_run(spoilt(small_run, tmp_path / "run", labels=labels))
    with pytest.raises(ValueError, match=r"_target_ of labels in .* must give an object of Vocabulary, got"):
        run.vocabulary()


def test_what_hydra_takes_in_no_configuration_is_refused():
    with pytest.raises(ValueError, match=r"the configuration cannot be built: .*_recursive_"):
        instantiate({"_target_": "lightning_sae.world.config_path", "_recursive_": 5}, trusted=())


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("a,b\n1,2\n", r"latents\.csv lacks the columns latent, density, top_images"),
        ("latent,density,top_images\nx,1,2\n", r"latents\.csv is no table that can be read: invalid literal"),
        ("", r"latents\.csv is empty"),
    ],
)
def test_a_table_of_latents_without_latents_is_refused(small_run, tmp_path, table, said):
    shutil.copytree(small_run, tmp_path / "run")
    (tmp_path / "run" / "latents.csv").write_text(table)
    with pytest.raises(ValueError, match=said):
        open_run(tmp_path / "run")


@pytest.mark.parametrize("value", ["!!bool maybe", "[1, 2", "!!int ''", "[" * 500])
def test_an_override_without_a_value_is_refused(small_run, value):
    with pytest.raises(ValueError, match=r"the overrides data\.root=.* have a value that is none"):
        open_run(small_run, [f"data.root={value}"])


@pytest.fixture
def hostile(small_run, tmp_path, mark):
    """A run whose judge is an unpickling."""
    folder, bomb = tmp_path / "run", tmp_path / "bomb.pkl"
    shutil.copytree(small_run, folder)
    bomb.write_bytes(pickle.dumps(Bomb(mark)))
    config = OmegaConf.load(folder / CONFIG)
    config.data.judge = {"_target_": "pandas.read_pickle", "filepath_or_buffer": str(bomb)}
    OmegaConf.save(config, folder / CONFIG)
    return folder


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("command", ["explain", "audit", "fit_probe", "others trusted"])
def test_commands_refuse_a_strangers_run(hostile, tmp_path, mark, command):
    picture = tmp_path / "white.png"
    Image.new("RGB", (8, 8)).save(picture)
    act = {
        "explain": lambda: explain.main([str(hostile), "--image", str(picture), "--prompt", "a star"]),
        "audit": lambda: audit_command.main([str(hostile)]),
        "fit_probe": lambda: fit_probe.main([str(hostile), "--out", str(tmp_path / "probe")]),
        "others trusted": lambda: audit_command.main([str(hostile), "--trust", "numpy"]),
    }[command]
    with pytest.raises(SystemExit, match=r"(?s)pandas\.read_pickle.*--trust pandas\.read_pickle"):
        act()
    assert not mark.exists()


def test_labels_are_checked_as_well(small_run, mark):
    run = open_run(small_run)
    run.config.labels = {"_target_": "pathlib.Path.write_text", "self": str(mark), "data": "run"}
    with pytest.raises(ValueError, match=r"pathlib\.Path\.write_text"):
        run.vocabulary()
