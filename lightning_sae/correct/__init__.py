"""The way out of a finding: a corrected classifier, chosen, measured, exported."""

from lightning_sae.correct.choice import Rule
from lightning_sae.correct.corrected_classifier import WAYS, CorrectedClassifier, Way
from lightning_sae.correct.correction import Correction, correct
from lightning_sae.correct.folder import load_classifier, read_record, save_classifier
from lightning_sae.correct.record import Record

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
