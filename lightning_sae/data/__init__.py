"""Images, the activation store, and the datamodule."""

from lightning_sae.data.cache import cached_tensor
from lightning_sae.data.capture import Capture, capture_store, hook_folder, store_folder
from lightning_sae.data.datamodule import ActivationDataModule
from lightning_sae.data.factories import fashion_mnist, image_folder, world
from lightning_sae.data.fashion import FashionMNIST
from lightning_sae.data.folders import ImageFolders
from lightning_sae.data.images import BadImageError, ImageSet, ImageSource, LabelledImages, Split
from lightning_sae.data.loader import EvalLoader, TrainLoader
from lightning_sae.data.probe import Probe, choose_probe
from lightning_sae.data.statistics import ActivationStatistics, Moments, merge_moments
from lightning_sae.data.store import ActivationStore
from lightning_sae.data.world_images import WorldImages

__all__ = [
    "ActivationDataModule",
    "ActivationStatistics",
    "ActivationStore",
    "BadImageError",
    "Capture",
    "EvalLoader",
    "FashionMNIST",
    "ImageFolders",
    "ImageSet",
    "ImageSource",
    "LabelledImages",
    "Moments",
    "Probe",
    "Split",
    "TrainLoader",
    "WorldImages",
    "cached_tensor",
    "capture_store",
    "choose_probe",
    "fashion_mnist",
    "hook_folder",
    "image_folder",
    "merge_moments",
    "store_folder",
    "world",
]
