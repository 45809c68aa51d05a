"""Images, the activation store, and the datamodule."""

from lightning_sae.data.cache import cached_tensor
from lightning_sae.data.capture import Capture, capture_store
from lightning_sae.data.datamodule import ActivationDataModule
from lightning_sae.data.decoding import BadImageError, decode
from lightning_sae.data.factories import fashion_mnist, huggingface, image_folder, table, world
from lightning_sae.data.fashion import FashionMNIST
from lightning_sae.data.folders import ImageFolders
from lightning_sae.data.huggingface import HuggingFaceImages
from lightning_sae.data.images import ImageSet, ImageSource, LabelledImages, Split
from lightning_sae.data.joint import JointDataModule, JointExamples
from lightning_sae.data.kept_tokens import kept_tokens
from lightning_sae.data.loader import EvalLoader, TrainLoader
from lightning_sae.data.locations import hook_folder, store_folder
from lightning_sae.data.probe import Probe, choose_probe
from lightning_sae.data.statistics import ActivationStatistics, Moments
from lightning_sae.data.store import ActivationStore
from lightning_sae.data.table import ImageTable
from lightning_sae.data.text_datamodule import TextDataModule
from lightning_sae.data.text_factories import text_file, vocabulary, world_captions, world_joint
from lightning_sae.data.texts import SplitTexts, Texts
from lightning_sae.data.world_images import WorldImages
from lightning_sae.data.world_texts import WorldTexts

__all__ = [
    "ActivationDataModule",
    "ActivationStatistics",
    "ActivationStore",
    "BadImageError",
    "Capture",
    "EvalLoader",
    "FashionMNIST",
    "HuggingFaceImages",
    "ImageFolders",
    "ImageSet",
    "ImageSource",
    "ImageTable",
    "JointDataModule",
    "JointExamples",
    "LabelledImages",
    "Moments",
    "Probe",
    "Split",
    "SplitTexts",
    "TextDataModule",
    "Texts",
    "TrainLoader",
    "WorldImages",
    "WorldTexts",
    "cached_tensor",
    "capture_store",
    "choose_probe",
    "decode",
    "fashion_mnist",
    "hook_folder",
    "huggingface",
    "image_folder",
    "kept_tokens",
    "store_folder",
    "table",
    "text_file",
    "vocabulary",
    "world",
    "world_captions",
    "world_joint",
]
