# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Look into a CLIP
#
# Train a sparse autoencoder on the patch tokens of a CLIP layer, see what its latents mean, and ask
# which of them drive the score of one image. All of it is embedded: a tiny CLIP, drawn pictures, no
# download; a minute on two cores.

# %%
import lightning_sae as ls

# %% [markdown]
# `ls.train` is `python train.py`: the same defaults, and the same words for what differs. Called
# again it finds its run finished, or goes on where it was stopped.

# %%
run = ls.train(
    "look_into_a_clip",
    hook_point="visual.transformer.resblocks.2",
    tokens="patch",
    logger="csv",
    settings={
        "data.n_train": 1500,
        "data.n_val": 500,
        "data.n_test": 1,
        "data.n_probe": 100,
        "data.store_dir": "store",
        "sae.d_sae": 128,
        "sae.k": 8,
        "trainer.max_steps": 300,
        "trainer.val_check_interval": 300,
        "callbacks": ["progress", "alignment", "attribution", "latent_table", "save_sae", "summary"],
        "callbacks.alignment.draws": 200,
    },
)
run

# %% [markdown]
# `ls.open_run("look_into_a_clip")` gives the same run later on, and
# `ls.load_sae("look_into_a_clip/sae")` its autoencoder alone. The latents are a table; those that
# drive the classes most come first.

# %%
strongest = run.latents.sort_values("attribution", ascending=False)
strongest[["label", "named", "alignment", "density", "attribution", "attribution_class"]].head()

# %% [markdown]
# A latent shows itself with the images that activate it most. Where its label is not to be relied on
# it is called *?*, with the guess in grey.

# %%
run.latent(strongest.index[0])

# %% [markdown]
# Which latents drive the score of one image, and where? Orange raises the score, purple lowers it.

# %%
from lightning_sae.world import World

image = World("balanced", "test", 40).image(8)
explained = ls.explain_image(run, image, ["a photo of a umbrella", "a photo of a star"], top=5)
explained

# %% [markdown]
# The same as a table, for what comes next: plots, statistics, a paper.

# %%
explained.to_frame()[["prompt", "label", "attribution", "effect", "unexpected"]]

# %% [markdown]
# Below this, all is PyTorch: the autoencoder is a module, and its latents are sparse.

# %%
from lightning_sae.clip import activations_at

run.sae

# %%
pixels = run.data.clip.preprocess(image)[None].to(run.data.clip.device)
x = activations_at(run.data.clip, [run.data.hook], pixels)[run.data.hook]
x_hat, latents = run.sae(x.flatten(0, -2))
latents
