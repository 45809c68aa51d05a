"""Which culprits of a class make one finding."""

from types import SimpleNamespace

import pytest

from lightning_sae.audit.audit import _drafts
from lightning_sae.audit.evidence.removal import UNKNOWN
from lightning_sae.audit.examination import Studied

from .imagined import suspect


def culprit(latents, kind, cue):
    some = suspect(None, latents, kind)
    return SimpleNamespace(
        suspect=some,
        culprits=some,
        each=(UNKNOWN,) * len(latents),
        sample=SimpleNamespace(sides=SimpleNamespace(name=cue)),
        verdict="culprit",
    )


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        (("spurious", "mark=yes"), [[5, 1, 2, 7]]),
        (("spurious", "tint=yes"), [[5, 1], [2, 7]]),
        (("typographic", "mark=yes"), [[5, 1], [2, 7]]),
    ],
)
def test_a_finding_is_of_one_kind_and_one_known_cue(second, expected):
    tried = [culprit([5, 1], "spurious", "mark=yes"), culprit([2, 7], *second)]
    drafts = _drafts(Studied(0, "a", [], [], [], tried), most=5)
    assert [[latent.number for latent in draft.culprits] for draft in drafts] == expected
    assert [len(draft.culprits) for draft in _drafts(Studied(0, "a", [], [], [], tried), most=1)] == [
        1
    ] * len(expected)
