"""The documented sweep and report for who uses W&B's own sweeps, as far as no server is needed."""

import runpy
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from wandb import wandb_agent
from wandb.sdk.launch.sweeps.utils import load_sweep_config

from lightning_sae.tracking.values import better

ROOT = Path(__file__).parents[2]
SWEEP = load_sweep_config(str(ROOT / "docs" / "trackers" / "wandb_sweep.yaml"))


@pytest.fixture
def started(monkeypatch, tmp_path):
    """Values of the parameters -> the command that W&B's agent starts."""

    def started(values):
        monkeypatch.chdir(tmp_path)
        for name in ("WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"):
            monkeypatch.setenv(name, "")  # the agent sets them, and they are put back
        commands = []

        class Process:
            def __init__(self, command, **kwargs):
                commands.append(command)

        monkeypatch.setattr(wandb_agent, "AgentProcess", Process)
        agent = wandb_agent.Agent.__new__(wandb_agent.Agent)
        agent._in_jupyter, agent._function, agent._forward_signals = False, None, False
        agent._sweep_command, agent._run_processes = [*SWEEP["command"]], {}
        args = {key: {"value": value} for key, value in values.items()}
        agent._command_run({"run_id": "abcd1234", "program": SWEEP["program"], "args": args})
        return commands[0]

    return started


def test_what_the_agent_starts_composes(started):
    values = {"sae.d_sae": 512, "sae.k": 4, "module.lr": 0.00123}
    assert values.keys() == SWEEP["parameters"].keys()
    program, command, *overrides = started(values)
    assert (program, command) == ("lightning-sae", "train")
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", overrides=overrides, return_hydra_config=True)
    assert {key: OmegaConf.select(cfg, key) for key in values} == values
    assert not cfg.logger.wandb.offline
    assert cfg.hydra.run.dir == "outputs/wandb/abcd1234"


def test_the_sweep_asks_for_the_better_direction():
    key, summary = SWEEP["metric"]["name"].rsplit(".", 1)
    assert (SWEEP["metric"]["goal"][:3], summary) == (better(key), "last")


def test_the_report_sets_settings_against_what_came_of_them():
    pytest.importorskip("wandb_workspaces")
    script = runpy.run_path(str(ROOT / "docs" / "trackers" / "wandb_report.py"))
    (grid,) = script["report"]("team", "lightning_sae").blocks
    coordinates, scatter = (panel._to_model().config for panel in grid.panels)
    settings = [f"config:{group}.value.{key}" for group, key in (k.split(".") for k in SWEEP["parameters"])]
    found = ["summary:val/fvu.last", "summary:alignment/named.last"]
    assert [column.accessor for column in coordinates.columns] == [*settings, *found]
    assert [scatter.x_axis, scatter.y_axis] == found


def test_the_documentation_shows_the_whole_sweep():
    text = (ROOT / "docs" / "trackers" / "wandb_sweep.yaml").read_text(encoding="utf-8")
    assert f"```yaml\n{text}```" in (ROOT / "docs" / "trackers.md").read_text(encoding="utf-8")
