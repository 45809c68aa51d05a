"""Images, the activation store, and the datamodule."""

from lightning_sae.data.capture.capture import Capture, capture_store
from lightning_sae.data.capture.kept_tokens import kept_tokens
from lightning_sae.data.datamodule import ActivationDataModule
from lightning_sae.data.images.decoding import BadImageError, decode
from lightning_sae.data.images.image_set import ImageSet, ImageSource, LabelledImages, Split
from lightning_sae.data.joint import JointDataModule, JointExamples
from lightning_sae.data.loading.loaders import EvalLoader, TrainLoader
from lightning_sae.data.probe_images import ProbeImages, choose_probe
from lightning_sae.data.sources.fashion_mnist import FashionMNIST, fashion_mnist
from lightning_sae.data.sources.folders.folders import ImageFolders, image_folder
from lightning_sae.data.sources.huggingface.images import HuggingFaceImages, huggingface
from lightning_sae.data.sources.table import ImageTable, table
from lightning_sae.data.sources.texts import SplitTexts, Texts, text_file, vocabulary
from lightning_sae.data.sources.world import WorldImages, WorldTexts, world, world_captions, world_joint
from lightning_sae.data.store.activations import ActivationStore
from lightning_sae.data.store.cache import cached_tensor
from lightning_sae.data.store.layout import hook_folder, store_folder
from lightning_sae.data.text_datamodule import TextDataModule
from lightning_sae.metrics.moments import ActivationStatistics, Moments

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
    "ProbeImages",
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
