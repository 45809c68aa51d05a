import lightning
import pytest
import torch

from lightning_sae.data import ActivationStore, EvalLoader, Moments, TrainLoader, pools
from lightning_sae.data.shards import ShardFolder

IMAGES, TOKENS, WIDTH = 40, 3, 2
ROWS = IMAGES * TOKENS


@pytest.fixture(params=["memory", "mapped"])
def store(request, tmp_path, monkeypatch):
    monkeypatch.setattr(pools, "BLOCK", 8)
    monkeypatch.setattr(pools, "POOL_BLOCKS", 3)
    x = torch.arange(ROWS * WIDTH, dtype=torch.float32).view(IMAGES, TOKENS, WIDTH)
    folder = ShardFolder(tmp_path / "store", {}, IMAGES, 7)
    for shard in folder.missing():
        part = x[[*folder.images(shard)]]
        moments = Moments.of(part.flatten(0, 1))
        spread = torch.tensor(moments.spread, dtype=torch.float64)
        folder.write(shard, {"x": part, "mean": moments.mean, "spread": spread})
    folder.finish(folder.moments().statistics())
    return ActivationStore(folder.folder, memory_limit_gb=8.0 if request.param == "memory" else 0.0)


TARGETS = torch.arange(IMAGES) % 4


def rows(batches):
    return [int(value) // WIDTH for batch in batches for value in batch.x[:, 0]]


@pytest.mark.parametrize("batch_size", [1, 10, 24, ROWS])
def test_every_row_exactly_once_per_pass_in_another_order(store, batch_size):
    train = TrainLoader(store, TARGETS, batch_size, seed=0)
    first, second = rows(train), rows(train)
    assert sorted(first) == sorted(second) == [*range(ROWS)]
    assert first != second
    assert first != sorted(first)
    assert rows(TrainLoader(store, TARGETS, batch_size, seed=0)) == first
    assert rows(TrainLoader(store, TARGETS, batch_size, seed=1)) != first


def test_batches_carry_images_and_targets(store):
    for batch in TrainLoader(store, TARGETS, 7, seed=0):
        assert batch.x.shape == (7, WIDTH)
        assert batch.image_ids.equal((batch.x[:, 0] / WIDTH).long() // TOKENS)
        assert batch.targets.equal(TARGETS[batch.image_ids])
        assert batch.embeddings is None


def test_the_remainder_is_dropped(store):
    train = TrainLoader(store, TARGETS, 50, seed=0)
    assert len(train) == 2
    assert len(set(rows(train))) == 100


@pytest.mark.parametrize("position", [0, 3, 5, 11, 12, 17])
def test_the_position_resumes_exactly(store, position):
    whole = TrainLoader(store, TARGETS, 10, seed=0)
    expected = rows(whole) + rows(whole) + rows(whole)
    broken = TrainLoader(store, TARGETS, 10, seed=0)
    stream = (batch for _ in range(2) for batch in broken)
    before = rows(next(stream) for _ in range(position))
    resumed = TrainLoader(store, TARGETS, 10, seed=0)
    resumed.load_state_dict(broken.state_dict())
    after = rows(resumed)
    assert (before + after) == expected[: len(before + after)]


def test_processes_share_a_pass(store):
    parts = [rows(TrainLoader(store, TARGETS, 10, 0, rank, 3)) for rank in range(3)]
    assert sorted(row for part in parts for row in part) == [*range(ROWS)]


def test_a_position_of_other_settings_is_refused(store):
    state = TrainLoader(store, TARGETS, 10, seed=0).state_dict()
    with pytest.raises(ValueError, match="these changed: batch_size 10 -> 20"):
        TrainLoader(store, TARGETS, 20, seed=0).load_state_dict(state)


@pytest.mark.parametrize("batch_size", [0, ROWS + 1])
def test_batch_size_out_of_range(store, batch_size):
    with pytest.raises(ValueError, match=rf"must be in 1\.\.{ROWS}"):
        TrainLoader(store, TARGETS, batch_size, seed=0)


@pytest.mark.parametrize("world_size", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_validation_is_in_image_order_with_whole_images(store, batch_size, world_size):
    embeddings = torch.randn(IMAGES, 5)
    loaders = [EvalLoader(store, TARGETS, embeddings, batch_size, r, world_size) for r in range(world_size)]
    batches = [batch for one in loaders for batch in one]
    assert sum(map(len, loaders)) == len(batches)
    assert rows(batches) == [*range(ROWS)]
    assert all(len(batch.x) % TOKENS == 0 for batch in batches)
    ids = torch.cat([batch.image_ids for batch in batches])
    assert ids.equal(torch.arange(IMAGES).repeat_interleave(TOKENS))
    assert torch.cat([batch.embeddings for batch in batches]).equal(embeddings[ids])


class Recorder(lightning.LightningModule):
    """Remembers what it was trained on; saves at given steps."""

    def __init__(self, folder, save_at=()):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.folder, self.save_at, self.seen = folder, save_at, []

    def training_step(self, batch, index):
        self.seen.append(batch.image_ids.tolist() + batch.x[:, 0].tolist())
        return self.weight * batch.x.mean()

    def on_train_batch_end(self, *args):
        if self.global_step in self.save_at:
            self.trainer.save_checkpoint(self.folder / f"{self.global_step}.ckpt")

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("limit", [1.0, 5])
def test_a_resumed_fit_sees_what_the_uninterrupted_one_saw(store, tmp_path, limit):
    def fit(module, ckpt_path=None):
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        trainer = lightning.Trainer(
            accelerator="cpu", max_steps=20, limit_train_batches=limit, enable_model_summary=False, **quiet
        )
        trainer.fit(module, TrainLoader(store, TARGETS, 15, seed=0), ckpt_path=ckpt_path, weights_only=True)
        return module.seen

    saved = (3, 8, 10, 16)  # in a pass, at its end, in the next
    whole = fit(Recorder(tmp_path, saved))
    assert len(whole) == 20
    for step in saved:
        assert fit(Recorder(tmp_path), tmp_path / f"{step}.ckpt") == whole[step:]
