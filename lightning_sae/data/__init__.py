"""Images, the activation store, and the datamodule; each name is imported when it is first asked for."""

from typing import TYPE_CHECKING

from lightning_sae.lazy import lazily

if TYPE_CHECKING:
    from lightning_sae.data.capture.capture import Capture as Capture
    from lightning_sae.data.capture.capture import capture_store as capture_store
    from lightning_sae.data.capture.kept_tokens import kept_tokens as kept_tokens
    from lightning_sae.data.datamodule import ActivationDataModule as ActivationDataModule
    from lightning_sae.data.images.decoding import BadImageError as BadImageError
    from lightning_sae.data.images.decoding import decode as decode
    from lightning_sae.data.images.image_set import ImageSet as ImageSet
    from lightning_sae.data.images.image_set import ImageSource as ImageSource
    from lightning_sae.data.images.image_set import LabelledImages as LabelledImages
    from lightning_sae.data.images.image_set import Split as Split
    from lightning_sae.data.joint import JointDataModule as JointDataModule
    from lightning_sae.data.joint import JointExamples as JointExamples
    from lightning_sae.data.loading.loaders import EvalLoader as EvalLoader
    from lightning_sae.data.loading.loaders import TrainLoader as TrainLoader
    from lightning_sae.data.probe_images import ProbeImages as ProbeImages
    from lightning_sae.data.probe_images import choose_probe as choose_probe
    from lightning_sae.data.sources.fashion_mnist import FashionMNIST as FashionMNIST
    from lightning_sae.data.sources.fashion_mnist import fashion_mnist as fashion_mnist
    from lightning_sae.data.sources.folders.folders import ImageFolders as ImageFolders
    from lightning_sae.data.sources.folders.folders import image_folder as image_folder
    from lightning_sae.data.sources.huggingface.images import HuggingFaceImages as HuggingFaceImages
    from lightning_sae.data.sources.huggingface.images import huggingface as huggingface
    from lightning_sae.data.sources.table import ImageTable as ImageTable
    from lightning_sae.data.sources.table import table as table
    from lightning_sae.data.sources.texts import SplitTexts as SplitTexts
    from lightning_sae.data.sources.texts import Texts as Texts
    from lightning_sae.data.sources.texts import text_file as text_file
    from lightning_sae.data.sources.texts import vocabulary as vocabulary
    from lightning_sae.data.sources.world import WorldImages as WorldImages
    from lightning_sae.data.sources.world import WorldTexts as WorldTexts
    from lightning_sae.data.sources.world import world as world
    from lightning_sae.data.sources.world import world_captions as world_captions
    from lightning_sae.data.sources.world import world_joint as world_joint
    from lightning_sae.data.store.activations import ActivationStore as ActivationStore
    from lightning_sae.data.store.cache import cached_tensor as cached_tensor
    from lightning_sae.data.store.layout import hook_folder as hook_folder
    from lightning_sae.data.store.layout import store_folder as store_folder
    from lightning_sae.data.text_datamodule import TextDataModule as TextDataModule
    from lightning_sae.metrics.moments import ActivationStatistics as ActivationStatistics
    from lightning_sae.metrics.moments import Moments as Moments

__getattr__, __dir__ = lazily(
    __name__,
    {
        ".capture.capture": ["Capture", "capture_store"],
        ".capture.kept_tokens": ["kept_tokens"],
        ".datamodule": ["ActivationDataModule"],
        ".images.decoding": ["BadImageError", "decode"],
        ".images.image_set": ["ImageSet", "ImageSource", "LabelledImages", "Split"],
        ".joint": ["JointDataModule", "JointExamples"],
        ".loading.loaders": ["EvalLoader", "TrainLoader"],
        ".probe_images": ["ProbeImages", "choose_probe"],
        ".sources.fashion_mnist": ["FashionMNIST", "fashion_mnist"],
        ".sources.folders.folders": ["ImageFolders", "image_folder"],
        ".sources.huggingface.images": ["HuggingFaceImages", "huggingface"],
        ".sources.table": ["ImageTable", "table"],
        ".sources.texts": ["SplitTexts", "Texts", "text_file", "vocabulary"],
        ".sources.world": ["WorldImages", "WorldTexts", "world", "world_captions", "world_joint"],
        ".store.activations": ["ActivationStore"],
        ".store.cache": ["cached_tensor"],
        ".store.layout": ["hook_folder", "store_folder"],
        ".text_datamodule": ["TextDataModule"],
        "..metrics.moments": ["ActivationStatistics", "Moments"],
    },
)
