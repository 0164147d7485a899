"""Public index: every name that a bundle config may put in `_target_`."""

from custom_components import phantom
from custom_components._version import __version__
from custom_components.data.atomic import writable_folder
from custom_components.data.atomic_nifti_writer import AtomicNibabelWriter
from custom_components.data.case_folder_layout import CaseFolderLayout
from custom_components.data.ct_reader import CTReader, LabelReader
from custom_components.data.segmentation_datalist import list_cases
from custom_components.data.split import split_cases
from custom_components.engines.case_evaluator import CaseDataset, CaseEvaluator
from custom_components.engines.root_cause import log_root_cause
from custom_components.handlers.lesion_report import LesionReport
from custom_components.handlers.load_weights import LoadWeights
from custom_components.handlers.resume_training import BestModelSaver, ResumableCheckpointSaver, ResumeTraining
from custom_components.handlers.save_split import SaveSplit
from custom_components.handlers.score_report import ScoreReport
from custom_components.handlers.stop_on_nan import StopOnNaN
from custom_components.handlers.tensorboard_overlay import TensorBoardOverlay
from custom_components.inferers.autocast_inferer import AutocastInferer
from custom_components.losses.pixel_cross_entropy import PixelCrossEntropy
from custom_components.metrics.lesion_scores import LesionScores
from custom_components.networks.lsh_attention import FullAttention, LSHAttention
from custom_components.networks.residual_attention_unet import ResidualAttentionUNet
from custom_components.transforms.check_label import CheckLabeld

__all__ = [
    "AtomicNibabelWriter",
    "AutocastInferer",
    "BestModelSaver",
    "CTReader",
    "CaseDataset",
    "CaseEvaluator",
    "CaseFolderLayout",
    "CheckLabeld",
    "FullAttention",
    "LSHAttention",
    "LabelReader",
    "LesionReport",
    "LesionScores",
    "LoadWeights",
    "PixelCrossEntropy",
    "ResidualAttentionUNet",
    "ResumableCheckpointSaver",
    "ResumeTraining",
    "SaveSplit",
    "ScoreReport",
    "StopOnNaN",
    "TensorBoardOverlay",
    "__version__",
    "list_cases",
    "log_root_cause",
    "phantom",
    "split_cases",
    "writable_folder",
]
