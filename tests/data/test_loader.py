import gc
import itertools
import threading

import lightning
import numpy as np
import pytest
import torch

from lightning_sae.data import ActivationStore, EvalLoader, Moments, TrainLoader
from lightning_sae.data.loading import shuffle as pools
from lightning_sae.data.store import activations
from lightning_sae.data.store.shards import ShardFolder

IMAGES, TOKENS, WIDTH = 40, 3, 2
ROWS = IMAGES * TOKENS


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(pools, "BLOCK", 8)
    monkeypatch.setattr(pools, "POOL_BLOCKS", 3)


def write_store(path, dtype=torch.float32):
    x = torch.arange(ROWS * WIDTH).view(IMAGES, TOKENS, WIDTH).to(dtype)
    folder = ShardFolder(path, {}, IMAGES, 7)
    for shard in folder.missing():
        part = x[[*folder.images(shard)]]
        moments = Moments.of(part.flatten(0, 1))
        spread = torch.tensor(moments.spread, dtype=torch.float64)
        folder.write(shard, {"x": part, "mean": moments.mean, "spread": spread})
    folder.finish(folder.moments().statistics())
    return folder.folder


@pytest.fixture(params=["memory", "mapped"])
def store(request, tmp_path):
    return ActivationStore(write_store(tmp_path / "store"), 8.0 if request.param == "memory" else 0.0)


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


@pytest.mark.parametrize("world_size", [2, 4])
def test_processes_together_take_the_batches_of_one(store, world_size):
    one = TrainLoader(store, TARGETS, 20, seed=0)
    several = [
        TrainLoader(store, TARGETS, 20 // world_size, 0, rank, world_size) for rank in range(world_size)
    ]
    for _ in range(2):
        for whole, *parts in zip(one, *several, strict=True):
            assert rows(parts) == rows([whole])


def test_the_position_holds_for_another_number_of_processes(store):
    one = TrainLoader(store, TARGETS, 20, seed=0)
    stream = (batch for _ in range(2) for batch in one)
    list(itertools.islice(stream, 8))
    several = [TrainLoader(store, TARGETS, 10, 0, rank, 2) for rank in range(2)]
    for loader in several:
        loader.load_state_dict(one.state_dict())
    assert rows([next(iter(loader)) for loader in several]) == rows([next(stream)])


def test_a_position_of_other_settings_is_refused(store):
    state = TrainLoader(store, TARGETS, 10, seed=0).state_dict()
    with pytest.raises(ValueError, match="these changed: global_batch 10 -> 20"):
        TrainLoader(store, TARGETS, 20, seed=0).load_state_dict(state)


@pytest.mark.parametrize("batch_size", [0, ROWS + 1])
def test_batch_size_out_of_range(store, batch_size):
    with pytest.raises(ValueError, match=rf"must be in 1\.\.{ROWS}"):
        TrainLoader(store, TARGETS, batch_size, seed=0)


@pytest.mark.parametrize(
    ("few_rows", "limit", "held"),
    [(ROWS, 0, True), (ROWS + 1, 0, True), (ROWS - 1, 0, False), (ROWS, -1, False), (ROWS, 1, True)],
)
def test_few_rows_below_the_limit_are_held_and_others_mapped(tmp_path, monkeypatch, few_rows, limit, held):
    """The limit is in bytes, from the size of the store on."""
    monkeypatch.setattr(activations, "FEW_ROWS", few_rows)
    folder, size = write_store(tmp_path / "store", torch.float16), ROWS * WIDTH * 2
    store = ActivationStore(folder, memory_limit_gb=(size + limit + 0.5) / 1e9)
    assert (store.x is not None) == held


def test_rows_of_one_mapped_shard_are_a_view(tmp_path):
    store, shard = ActivationStore(write_store(tmp_path / "store"), memory_limit_gb=0.0), 7 * TOKENS
    for start in range(ROWS):
        stop = min(start + 2, ROWS)
        one, other = store.rows(start, stop), store.rows(start, stop)
        assert (one.data_ptr() == other.data_ptr()) == (start // shard == (stop - 1) // shard)


@pytest.mark.parametrize("batch_size", [1, 10, 50])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_order_is_the_same_wherever_the_store_is_held(tmp_path, batch_size, dtype):
    folder = write_store(tmp_path / "store", dtype)
    stores = ActivationStore(folder), ActivationStore(folder, memory_limit_gb=0.0)
    memory, mapped = (TrainLoader(store, TARGETS, batch_size, seed=3) for store in stores)
    for _ in range(3):
        for one, other in zip(memory, mapped, strict=True):
            assert one.x.dtype == torch.float32
            assert all(a.equal(b) for a, b in zip(one[:3], other[:3], strict=True))


def test_the_order_is_that_of_a_plain_loop(store):
    """Blocks dealt at random to pools in ascending order, the rows of a pool permuted."""
    expected = []
    blocks = np.random.default_rng([5, 0]).permutation(15)  # of 8 rows
    for pool in range(5):
        chosen = [b * 8 + i for b in sorted(blocks[3 * pool : 3 * pool + 3]) for i in range(8)]
        expected += [chosen[i] for i in np.random.default_rng([5, 0, pool]).permutation(24)]
    assert rows(TrainLoader(store, TARGETS, 10, seed=5)) == expected


def test_batches_outlive_the_buffers_that_they_came_from(store):
    kept = list(TrainLoader(store, TARGETS, 7, seed=0))
    assert rows(kept) == rows(TrainLoader(store, TARGETS, 7, seed=0))


def test_what_fails_in_the_thread_is_raised_where_it_is_needed_and_can_be_tried_again(tmp_path, monkeypatch):
    store = ActivationStore(write_store(tmp_path / "store"), memory_limit_gb=0.0)
    expected = rows(TrainLoader(store, TARGETS, 10, seed=0))
    train, read = TrainLoader(store, TARGETS, 10, seed=0), store.rows
    before = list(itertools.islice(train, 6))  # pool 2 is in use, 3 is read
    train._reader._ahead[1].exception()

    def fail(start, stop):
        raise OSError("the disk is gone")

    monkeypatch.setattr(store, "rows", fail)
    with pytest.raises(OSError, match="the disk is gone"):
        before.extend(train)
    monkeypatch.setattr(store, "rows", read)
    assert len(before) < 12
    assert rows([*before, *itertools.islice(train, 12 - len(before))]) == expected


def test_the_thread_ends_with_the_loader(store):
    def threads():
        return [thread for thread in threading.enumerate() if thread.name.startswith("activations")]

    others = set(threads())
    train = TrainLoader(store, TARGETS, 10, seed=0)
    assert set(threads()) == others  # none before it is needed
    next(iter(train))
    (own,) = set(threads()) - others
    del train
    gc.collect()
    own.join(timeout=60)
    assert not own.is_alive()


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


@pytest.mark.parametrize("world_size", [2, 4, 7])
def test_validation_batches_are_the_same_on_any_number_of_processes(store, world_size):
    def batches(world_size):
        loaders = [
            EvalLoader(store, TARGETS, torch.zeros(IMAGES, 1), 17, r, world_size) for r in range(world_size)
        ]
        return [rows([batch]) for loader in loaders for batch in loader]

    assert batches(world_size) == batches(1)


def test_validation_batches_come_on_the_device_that_is_asked_for(store):
    embeddings = torch.zeros(IMAGES, 5)
    (batch, *_) = EvalLoader(store, TARGETS, embeddings, 1000, device="meta")
    assert {part.device.type for part in batch[:4]} == {"meta"}
    (batch, *_) = EvalLoader(store, TARGETS, embeddings, 1000)
    assert {part.device for part in batch[:4]} == {store.device}


def test_every_process_has_a_validation_batch(store):
    loaders = [EvalLoader(store, TARGETS, torch.zeros(IMAGES, 1), 1000, r, 6) for r in range(6)]
    assert min(map(len, loaders)) >= 1
    with pytest.raises(ValueError, match=r"40 images are too few for 41 processes: set trainer\.devices=40"):
        EvalLoader(store, TARGETS, torch.zeros(IMAGES, 1), 1000, 0, 41)


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
