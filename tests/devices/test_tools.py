"""What is below graphs, steering, names and monitors: on the pretend device it answers as on the CPU."""

import pytest
from both import PROMPTS, assert_near, on_both

from lightning_sae.explain.image_graph import image_graphs
from lightning_sae.explain.steered import steer_image
from lightning_sae.monitoring import Monitor
from lightning_sae.monitoring.fit import fit_monitor, fit_reference
from lightning_sae.names.proposals import propose_names, wanted_latents
from lightning_sae.runs.folder import RunFolder
from lightning_sae.steering.intervention import Scale
from lightning_sae.world import World

TEXTS = [prompt for group in PROMPTS.values() for prompt in group]

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def test_a_graph(small_layers_run):
    image = World("biased", "test", 1).image(0)
    found, expected = on_both(small_layers_run, lambda run: image_graphs([run], image, TEXTS[:1], "logit"))
    graphs = [[each.traced.graph for each in one.graphs] for one in (found, expected)]
    for one, other in zip(*graphs, strict=True):
        assert_near(one.nodes.to_dict("list"), other.nodes.to_dict("list"))
        assert one.replacement == pytest.approx(other.replacement, abs=1e-4)


@pytest.mark.parametrize("run", ["small_run", "small_patch_run"])
def test_steering_an_image(request, run):
    image = World("biased", "test", 1).image(0)
    edits = {3: 2.0, 5: Scale(0.0)}
    found, expected = on_both(request.getfixturevalue(run), lambda run: steer_image(run, image, edits, TEXTS))
    assert_near(found.scores.to_dict("list"), expected.scores.to_dict("list"))
    assert found.cosine == pytest.approx(expected.cosine, abs=1e-4)


def test_proposals_of_names(small_run):
    def propose(run: RunFolder):
        return propose_names(run, wanted_latents(run, [3, 5, 7])).to_dict("list")

    assert_near(*on_both(small_run, propose))


@pytest.mark.parametrize("run", ["small_run", "small_patch_run"])
def test_a_monitor(request, tmp_path, run):
    images = [World("biased", "test", 6).image(i) for i in range(6)]

    def watched(run: RunFolder):
        folder = tmp_path / run.data.clip.device.type
        fit_monitor(fit_reference(run, run.data.images("train"), attribute_every=2), folder)
        monitor = Monitor.open(folder, run)
        monitor.update(images)
        monitor.save()
        assert monitor.seen == len(images)
        return monitor.record().model_dump()

    assert_near(*on_both(request.getfixturevalue(run), watched))
