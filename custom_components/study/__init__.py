"""Statistics of a study and the search of its ensemble. Names are imported at first access."""

import importlib
from typing import Any

_MODULES = {
    "bootstrap_difference": "statistics.bootstrap",
    "bootstrap_interval": "statistics.bootstrap",
    "brier_score": "statistics.calibration",
    "can_group_by": "results.subgroups",
    "delong_interval": "statistics.delong",
    "delong_test": "statistics.delong",
    "expected_calibration_error": "statistics.calibration",
    "mcnemar_test": "statistics.mcnemar",
    "mean_of": "statistics.case_statistics",
    "median_of": "statistics.case_statistics",
    "nested_ensemble": "results.ensemble_search",
    "reliability_curve": "statistics.calibration",
    "score_statistics": "statistics.case_statistics",
    "search_ensemble": "statistics.ensemble_rule",
    "split_subgroups": "results.subgroups",
    "subgroup_of": "results.subgroups",
    "t_test_over_folds": "statistics.paired_t_test",
}

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
