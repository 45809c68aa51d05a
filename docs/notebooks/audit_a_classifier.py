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
# # Audit a classifier
#
# What does a CLIP classifier rely on that nobody intended? The embedded CLIP was trained on captions
# with planted reliance: stars nearly always stood on brown. The audit finds it without being told. No
# download; a minute on two cores.

# %%
import lightning_sae as ls

run = ls.train(
    "audit_a_classifier",
    logger="csv",
    settings={
        "data.n_train": 4000,
        "data.n_val": 1500,
        "data.n_test": 1,
        "data.store_dir": "store",
        "trainer.max_steps": 400,
        "trainer.val_check_interval": 400,
        "callbacks": ["progress", "alignment", "attribution", "latent_table", "save_sae", "summary"],
    },
)
run

# %% [markdown]
# The zero-shot classifier of the run is audited with its prompts. `audit.json` and `audit.html`, the
# page for whoever has no notebook, lie in the folder of the run afterwards.

# %%
audit = ls.audit_classifier(run)
audit

# %%
audit.to_frame().head()

# %% [markdown]
# A finding shows the latents that lead the class astray, the images on which they do, what happens
# without them, and what to do.

# %%
audit.finding(1)

# %%
audit.finding(1).to_frame()[["label", "share", "attribution", "agreement"]]

# %% [markdown]
# Look at the culprit itself: its top images say what it is, whatever it is called.

# %%
run.latent(audit.finding(1).finding.culprits[0].latent)

# %% [markdown]
# A linear probe on the same embeddings relies on other things: `ls.audit_classifier(run, "probe")`.
# To mend what was found, `lightning-sae correct` exports a corrected classifier with its
# card.
