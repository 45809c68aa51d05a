import errno
import json
import os

import pytest
import torch

from lightning_sae.clip import HookPoint, capture
from lightning_sae.data import ActivationStore, capture_store, hook_folder
from lightning_sae.data.store import shards
from lightning_sae.data.store.shards import read_tensor

CLS = HookPoint("visual.transformer.resblocks.1", "cls")
ALL = HookPoint("visual.transformer.resblocks.0", "all")


@pytest.fixture
def fill(noise, clip, tmp_path):
    def fill(hooks=(CLS, ALL), images=noise, store="store", **settings):
        settings = {"batch_size": 4, "shard_images": 8} | settings
        return capture_store(images, clip, hooks, store_dir=tmp_path / store, **settings)

    return fill


def contents(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def test_round_trip(fill, noise, clip):
    folder = fill()
    pixels = torch.stack([clip.preprocess(noise[i]) for i in range(len(noise))])
    with torch.inference_mode(), capture(clip, [CLS, ALL]) as seen:
        embeddings = clip.encode_image(pixels)
    for hook in (CLS, ALL):
        store = ActivationStore(hook_folder(folder, hook))
        assert store.layout == (22, *seen[hook].shape[1:])
        torch.testing.assert_close(store.rows(0, len(store)), seen[hook].flatten(0, 1), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(read_tensor(folder / "images", "embeddings"), embeddings, atol=1e-5, rtol=1e-4)
    assert read_tensor(folder / "images", "targets").equal(noise.targets)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clip, "encode_image", None)  # nothing is captured twice
        assert fill() == folder


def test_files_follow_the_umask(fill):
    umask = os.umask(0o027)
    try:
        folder = fill([CLS])
    finally:
        os.umask(umask)
    files = [path for path in folder.rglob("*") if path.suffix in (".safetensors", ".json")]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o640}


@pytest.mark.parametrize("writes", range(12))
def test_killed_anywhere_and_resumed_gives_the_same_bytes(fill, monkeypatch, writes):
    whole = fill(store="whole")
    replace, count = os.replace, iter(range(100))

    def kill(source, target):
        if next(count) == writes:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", kill)
    with pytest.raises(KeyboardInterrupt):
        fill()
    monkeypatch.undo()
    folder = fill()
    assert contents(folder) == contents(whole)


def test_resumes_only_what_is_missing(fill, clip, monkeypatch):
    folder = fill()
    before = contents(folder)
    (hook_folder(folder, CLS) / "000001.safetensors").unlink()
    with pytest.raises(ValueError, match=r"1 shards .* 000001.safetensors; run"):
        ActivationStore(hook_folder(folder, CLS))
    seen, encode = [], clip.encode_image
    monkeypatch.setattr(clip, "encode_image", lambda pixels: seen.append(len(pixels)) or encode(pixels))
    fill()
    assert seen == [1, 4, 4]  # a blank image tells the size, then the shard
    assert contents(folder) == before


def test_another_hook_point_is_added_and_nothing_else_touched(fill):
    before = contents(fill([CLS]))
    after = contents(folder := fill([CLS, ALL]))
    assert {path: after[path] for path in before} == before
    assert {path.parts[0] for path in after.keys() - before.keys()} == {hook_folder(folder, ALL).name}


def test_a_further_hook_point_ends_the_forward_where_the_embeddings_are_there(fill, clip):
    folder, calls = fill([CLS]), []
    handle = clip.visual.ln_post.register_forward_hook(lambda *_: calls.append(1))
    try:
        fill([CLS, ALL])
        assert not calls
        (folder / "images" / "000001.safetensors").unlink()
        (hook_folder(folder, ALL) / "000002.safetensors").unlink()
        fill([CLS, ALL])
        assert len(calls) == 2  # the batches of shard 1
    finally:
        handle.remove()
    assert contents(folder) == contents(fill([CLS, ALL], store="whole"))


def test_another_shard_size_in_a_half_written_store(fill):
    folder = fill()
    (hook_folder(folder, CLS) / "manifest.json").unlink()
    assert fill(shard_images=16) == folder
    assert len(list(hook_folder(folder, CLS).glob("*.safetensors"))) == 2
    assert len(list(hook_folder(folder, ALL).glob("*.safetensors"))) == 3


def test_other_settings_are_an_error_that_names_them(fill):
    folder = fill([CLS])
    with pytest.raises(ValueError, match=r"dtype: the store has 'float32', this run asks for 'float16'"):
        fill([CLS], dtype="float16")
    (hook_folder(folder, CLS) / "manifest.json").unlink()
    with pytest.raises(ValueError, match=r"dtype: the store has 'float32', this run asks for 'float16'"):
        fill([CLS], dtype="float16")


def test_other_data_or_weights_have_their_own_folder(fill, clip, judge, noise, make_noise, tmp_path):
    folder = fill([CLS])
    assert fill([CLS], images=make_noise(seed=5)) != folder
    assert capture_store(noise, judge, store_dir=tmp_path / "store") != folder


def test_float16(fill):
    exact, half = (
        ActivationStore(hook_folder(fill([CLS], store=dtype, dtype=dtype), CLS))
        for dtype in ("float32", "float16")
    )
    assert half.dtype == torch.float16
    torch.testing.assert_close(half.rows(0, 22).float(), exact.rows(0, 22), atol=1e-3, rtol=1e-3)


def test_damaged_bytes_are_found(fill):
    path = hook_folder(fill([CLS]), CLS) / "000000.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"000000.safetensors is damaged \(checksum\)"):
        ActivationStore(path.parent)


def test_full_disk_leaves_no_half_shard(fill, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left .* resumes") as caught:
        fill([CLS])
    assert caught.value.errno == errno.ENOSPC
    monkeypatch.undo()
    assert contents(fill([CLS])) == contents(fill([CLS], store="whole"))


@pytest.mark.parametrize(("value", "message"), [(float("nan"), "NaN or infinite"), (1.0, "are equal")])
def test_bad_activations_name_the_hook_point(fill, clip, value, message):
    def spoil(module, args, output):
        return torch.full_like(output, value)

    handle = clip.get_submodule("model.visual.transformer.resblocks.1").register_forward_hook(spoil)
    try:
        with pytest.raises(ValueError, match=message) as caught:
            fill([CLS])
    finally:
        handle.remove()
    assert str(CLS) in str(caught.value)


@pytest.mark.parametrize("hook_points", [[CLS], []], ids=["audited", "judge"])
def test_nan_embeddings_name_the_tower_and_how_many(fill, clip, hook_points):
    def spoil(module, args, output):
        output[1] = torch.nan  # one image of each batch
        return output

    hook = clip.get_submodule("model.visual").register_forward_hook(spoil)
    try:
        with pytest.raises(
            ValueError, match=r"1 of \d+ images have NaN .* embeddings by the image tower of tiny"
        ):
            fill(hook_points)
    finally:
        hook.remove()


def test_overflow_in_float16_is_refused(fill, clip):
    hook = clip.get_submodule("model.visual.transformer.resblocks.1").register_forward_hook(
        lambda module, args, output: output * 1e6
    )
    try:
        with pytest.raises(ValueError, match=r"as torch.float16.*use data.dtype=float32"):
            fill([CLS], dtype="float16")
    finally:
        hook.remove()


def test_statistics_are_those_of_numpy_for_any_shard_size(fill):
    for size in (1, 5, 100):
        folder = hook_folder(fill([ALL], store=f"{size}", shard_images=size), ALL)
        store = ActivationStore(folder)
        x = store.rows(0, len(store)).double().numpy()
        scale = (x.shape[1] / ((x - x.mean(0)) ** 2).sum(1).mean()) ** 0.5
        torch.testing.assert_close(
            store.statistics.mean.double(), torch.from_numpy(x.mean(0)), atol=1e-6, rtol=1e-6
        )
        assert store.statistics.scale == pytest.approx(scale, rel=1e-10)
        assert store.statistics.n_tokens == len(x) == 22 * 5


@pytest.mark.parametrize("num_workers", [1, 2, None])
def test_workers_give_the_same_bytes(fill, num_workers):
    assert contents(fill([CLS], store="other", num_workers=num_workers)) == contents(
        fill([CLS], num_workers=0)
    )


def test_memory_mapped_rows_are_the_same(fill):
    folder = hook_folder(fill([ALL]), ALL)
    memory, mapped = read_tensor(folder, "x").flatten(0, 1), ActivationStore(folder, memory_limit_gb=0)
    assert mapped.x is None
    for start, stop in ((0, 110), (3, 41), (39, 41), (40, 80), (109, 110)):
        assert mapped.rows(start, stop).equal(memory[start:stop])
    assert mapped.images(torch.tensor([21, 0])).equal(memory.view(22, 5, -1)[[21, 0]])


def test_manifest_says_what_is_inside(fill, clip):
    manifest = json.loads((hook_folder(fill([CLS]), CLS) / shards.MANIFEST).read_text())
    assert manifest["fingerprint"]["clip.weights"] == clip.identity()["weights"]
    assert manifest["fingerprint"]["hook_point"] == CLS.module
    assert [entry["images"] for entry in manifest["shards"]] == [[0, 8], [8, 16], [16, 22]]
    assert manifest["tensors"] == {"x": ["F32", [1, 16]]}
