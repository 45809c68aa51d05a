"""The way out of a finding: a corrected classifier, chosen, measured, exported."""

from lightning_sae.correction.choice import Rule
from lightning_sae.correction.corrected import WAYS, CorrectedClassifier, Way
from lightning_sae.correction.correction import Correction, correct
from lightning_sae.correction.folder import load_classifier, read_record, save_classifier
from lightning_sae.correction.record import Record

__all__ = [
    "WAYS",
    "CorrectedClassifier",
    "Correction",
    "Record",
    "Rule",
    "Way",
    "correct",
    "load_classifier",
    "read_record",
    "save_classifier",
]
