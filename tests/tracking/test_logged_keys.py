"""A run with every tracker: what is logged, under which keys, and that each value is told once."""

from collections import Counter
from types import SimpleNamespace

import pandas as pd
import pytest

mlflow = pytest.importorskip("mlflow")
ADDED = {"trainer/global_step", "_step", "_runtime", "_timestamp"}


@pytest.fixture(scope="module")
def run(train_small, tmp_path_factory):
    """The folder of a run of two passes, and what it prints."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("working"))
        patch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
        patch.setenv("WANDB_SILENT", "true")
        folder = train_small(
            "trackers",
            *("logger=[csv,wandb,tensorboard,mlflow]", "trainer.max_steps=4", "trainer.val_check_interval=2"),
            *("trainer.log_every_n_steps=1", "callbacks.best_checkpoint.mode=max", "data.n_probe=8"),
        )
        client = mlflow.MlflowClient("sqlite:///mlflow.db")
        (experiment,) = client.search_experiments(filter_string="name = 'lightning_sae'")
        (found,) = client.search_runs([experiment.experiment_id])
        yield SimpleNamespace(folder=folder, client=client, id=found.info.run_id)


@pytest.fixture(scope="module")
def curves(run):
    """Key -> step -> value, of metrics.csv."""
    table = pd.read_csv(run.folder / "metrics.csv")
    assert len({*table}) == len([*table])
    return {key: dict(table.set_index("step")[key].dropna()) for key in table if key not in ("step", "epoch")}


def test_wandb_has_each_value_once(run, curves, wandb_records):
    found = wandb_records(run.folder)
    rows = [r.history.item for r in found if r.HasField("history")]
    told = Counter()
    for row in rows:
        items = {"/".join(item.nested_key) or item.key: item.value_json for item in row}
        step = int(items["trainer/global_step"])
        told.update((key, step) for key in items.keys() - ADDED)
    assert {*told.values()} == {1}
    shown = {key.split("/")[0] for key, _ in told} - {key.split("/")[0] for key in curves}
    assert shown == {"epoch", "tables"}
    metrics = {r.metric.name for r in found if r.WhichOneof("record_type") == "metric"} - {""}
    assert metrics == {*curves, "epoch", "trainer/global_step"}
    for key in curves:
        assert {step for name, step in told if name == key} == {*curves[key]}


def test_no_curve_has_the_name_of_a_summary(curves):
    """W&B keeps the last and the best value of `KEY` as `KEY.last`, `KEY.min`, `KEY.max`."""
    assert not {key for key in curves if key.endswith((".last", ".min", ".max"))}
    assert not {(a, b) for a in curves for b in curves if b.startswith((f"{a}/", f"{a}."))}


def test_mlflow_and_tensorboard_have_the_same_curves(run, curves):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run.folder / "tensorboard"))
    events.Reload()
    assert {*events.Tags()["scalars"]} == {*curves, "epoch"}
    for key in ("val/fvu", "epoch", "train/loss"):
        history = run.client.get_metric_history(run.id, key)
        steps = [value.step for value in history]
        assert steps == [event.step for event in events.Scalars(key)] == sorted({*steps})
    assert {*run.client.get_run(run.id).data.metrics} == {*curves, "epoch"}


def test_artifacts_are_of_the_last_and_the_best_pass_only(run, wandb_records):
    kept = [r.artifact for r in wandb_records(run.folder) if r.HasField("artifact")]
    names = Counter(artifact.type for artifact in kept if artifact.type != "run_table")
    assert names == {"sae": 1, "tables": 1, "best": 1}
    tables = [artifact.name for artifact in kept if artifact.type == "run_table"]
    assert len({*tables}) == len(tables)
    (sae,) = (artifact for artifact in kept if artifact.type == "sae")
    assert "best" not in sae.aliases  # FVU falls, and its maximum is that of the first pass
    (best,) = (artifact for artifact in kept if artifact.type == "best")
    assert [entry.path for entry in best.manifest.contents] == ["checkpoints/best.ckpt"]
    artifacts = {entry.path for entry in run.client.list_artifacts(run.id)}
    assert {"sae", "tables", "latents.csv", "checkpoints"} <= artifacts
