"""Public index: every name that a bundle config may put in `_target_`."""

import ast
import functools
import importlib
import inspect
import sys
import warnings
from typing import TYPE_CHECKING, Any

from custom_components._version import __version__

# For editors and type checkers. At run time each name is imported when it is first asked for: a program that needs one
# of them, or only the version, does not wait for the others, nor for PyTorch.
if TYPE_CHECKING:
    from custom_components import phantom
    from custom_components.command_line.bundle_command import begin
    from custom_components.command_line.export_command import check_export
    from custom_components.command_line.switches import check_switches
    from custom_components.data.mixed_draws import MixedDraws
    from custom_components.data.scan_cache import ScanCache
    from custom_components.data.scan_shards import ShardedScans, list_sharded_scans
    from custom_components.data.seeded_draws import SeededDraws, SeededDrawSampler
    from custom_components.data.size_balanced_sampler import SizeBalancedSampler
    from custom_components.datalists.check_lesions import check_infections, check_lesions
    from custom_components.datalists.folds import hold_out_fold, select_fold
    from custom_components.datalists.scans import list_scans
    from custom_components.datalists.slices import list_cases
    from custom_components.datalists.split import split_cases
    from custom_components.diagnosis.bundle_network import bundle_folder
    from custom_components.engines.case_evaluator import CaseDataset, CaseEvaluator
    from custom_components.engines.prepare_scan_batch import PrepareScanBatch
    from custom_components.engines.process_device import process_device
    from custom_components.engines.root_cause import log_root_cause
    from custom_components.files.atomic import writable_folder
    from custom_components.handlers.checkpoint_savers import BestModelSaver, ResumableCheckpointSaver
    from custom_components.handlers.classification_score_table import ClassificationScoreTable
    from custom_components.handlers.diagnosis_case_files import DiagnosisCaseFiles
    from custom_components.handlers.lesion_case_files import LesionCaseFiles
    from custom_components.handlers.lesion_score_table import LesionScoreTable
    from custom_components.handlers.load_weights import LoadWeights
    from custom_components.handlers.mask_score_table import MaskScoreTable
    from custom_components.handlers.model_card_writer import ModelCardWriter
    from custom_components.handlers.recompute_norm import RecomputeNorm
    from custom_components.handlers.resume_training import ResumeTraining
    from custom_components.handlers.save_split import SaveSplit
    from custom_components.handlers.save_weights import SaveWeights
    from custom_components.handlers.scan_auc import ScanAUC
    from custom_components.handlers.slice_table import SliceTable
    from custom_components.handlers.stats_log import StatsLog
    from custom_components.handlers.stop_on_nan import StopOnNaN
    from custom_components.handlers.tensorboard_overlay import TensorBoardOverlay
    from custom_components.images.ct_reader import CTReader, LabelReader
    from custom_components.images.writers import AtomicNibabelWriter, CaseFolderLayout, MapNibabelWriter
    from custom_components.inferers.autocast_inferer import AutocastInferer
    from custom_components.inferers.each_slice_inferer import EachSliceInferer
    from custom_components.inferers.explain_inferer import ExplainInferer
    from custom_components.inferers.flip_inferer import FlipInferer
    from custom_components.losses.attention_guided import AttentionGuidedLoss
    from custom_components.losses.dice_cross_entropy import DiceCrossEntropy
    from custom_components.losses.normalized_mse import NormalizedMSELoss
    from custom_components.losses.partial_label import PartialLabelLoss
    from custom_components.losses.pixel_cross_entropy import PixelCrossEntropy
    from custom_components.metrics.lesion_scores import LesionScores
    from custom_components.networks.attention_resnet import AttentionResNet, WithSoftMask
    from custom_components.networks.dual_sampling import DualSamplingNet
    from custom_components.networks.lsh.attention import FullAttention, LSHAttention
    from custom_components.networks.online_attention import OnlineAttention
    from custom_components.networks.residual_attention_unet import ResidualAttentionUNet
    from custom_components.networks.vbnet import VBNet
    from custom_components.transforms.align_masks import AlignMasksd
    from custom_components.transforms.attention_levels import AttentionLevelsd
    from custom_components.transforms.augmentations import RandLungDensityd, RandPlantedLesionsd
    from custom_components.transforms.checks.label import CheckLabeld
    from custom_components.transforms.checks.prediction import CheckPredictiond
    from custom_components.transforms.checks.scan import CheckScand
    from custom_components.transforms.diagnosis_scores import DiagnosisScoresd
    from custom_components.transforms.infection_ratio import InfectionRatiod, RatioChanneld
    from custom_components.transforms.lesions_in_lungs import LesionsInLungsd
    from custom_components.transforms.lung_infection_label import LungInfectionLabeld, LungInfectionMasksd
    from custom_components.transforms.lungs.body_mask import body_mask
    from custom_components.transforms.lungs.fallback_lung_mask import FallbackLungMaskd
    from custom_components.transforms.lungs.segment_lungs import SegmentLungsd
    from custom_components.transforms.paper_grid import PaperGridd
    from custom_components.transforms.small_lesions import RemoveSmallLesionsd
    from custom_components.transforms.try_save_image import TrySaveImaged
    from custom_components.weights.checkpoints import training_ended, training_folder
    from custom_components.weights.model_card import TrainedWith, network_as_trained, scored_cases

__all__ = [
    "AlignMasksd",
    "AtomicNibabelWriter",
    "AttentionGuidedLoss",
    "AttentionLevelsd",
    "AttentionResNet",
    "AutocastInferer",
    "BestModelSaver",
    "CTReader",
    "CaseDataset",
    "CaseEvaluator",
    "CaseFolderLayout",
    "CheckLabeld",
    "CheckPredictiond",
    "CheckScand",
    "ClassificationScoreTable",
    "DiagnosisCaseFiles",
    "DiagnosisScoresd",
    "DiceCrossEntropy",
    "DualSamplingNet",
    "EachSliceInferer",
    "ExplainInferer",
    "FallbackLungMaskd",
    "FlipInferer",
    "FullAttention",
    "InfectionRatiod",
    "LSHAttention",
    "LabelReader",
    "LesionCaseFiles",
    "LesionScoreTable",
    "LesionScores",
    "LesionsInLungsd",
    "LoadWeights",
    "LungInfectionLabeld",
    "LungInfectionMasksd",
    "MapNibabelWriter",
    "MaskScoreTable",
    "MixedDraws",
    "ModelCardWriter",
    "NormalizedMSELoss",
    "OnlineAttention",
    "PaperGridd",
    "PartialLabelLoss",
    "PixelCrossEntropy",
    "PrepareScanBatch",
    "RandLungDensityd",
    "RandPlantedLesionsd",
    "RatioChanneld",
    "RecomputeNorm",
    "RemoveSmallLesionsd",
    "ResidualAttentionUNet",
    "ResumableCheckpointSaver",
    "ResumeTraining",
    "SaveSplit",
    "SaveWeights",
    "ScanAUC",
    "ScanCache",
    "SeededDrawSampler",
    "SeededDraws",
    "SegmentLungsd",
    "ShardedScans",
    "SizeBalancedSampler",
    "SliceTable",
    "StatsLog",
    "StopOnNaN",
    "TensorBoardOverlay",
    "TrainedWith",
    "TrySaveImaged",
    "VBNet",
    "WithSoftMask",
    "__version__",
    "begin",
    "body_mask",
    "bundle_folder",
    "check_export",
    "check_infections",
    "check_lesions",
    "check_switches",
    "hold_out_fold",
    "list_cases",
    "list_scans",
    "list_sharded_scans",
    "log_root_cause",
    "network_as_trained",
    "phantom",
    "process_device",
    "scored_cases",
    "select_fold",
    "split_cases",
    "training_ended",
    "training_folder",
    "writable_folder",
]


# Names that were public until the last release, each with its new one; they work for one release more.
RENAMED = {
    "ClassificationReport": "ClassificationScoreTable",
    "DiagnosisReport": "DiagnosisCaseFiles",
    "LesionReport": "LesionCaseFiles",
    "ScoreReport": "LesionScoreTable",
    "SegmentationReport": "MaskScoreTable",
}


def __getattr__(name: str) -> Any:
    if name in RENAMED:
        message = f"custom_components.{name} is now named {RENAMED[name]}: the old name is removed in the next release."
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        return globals().setdefault(name, __getattr__(RENAMED[name]))  # warns once
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = _modules()[name]
    if module == __name__:
        return importlib.import_module(f"{module}.{name}")
    return getattr(importlib.import_module(module), name)


def __dir__() -> list[str]:
    return __all__


@functools.cache
def _modules() -> dict[str, str]:
    """Module of each name, as the imports above have it."""
    source = inspect.getsource(sys.modules[__name__])
    lines = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(line.module) for line in lines for alias in line.names}
