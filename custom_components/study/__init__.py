"""Statistics of a study, and the search of its ensemble. Names are imported when they are first asked for."""

import importlib
from typing import Any

_MODULES = {
    "bootstrap_difference": "bootstrap",
    "bootstrap_interval": "bootstrap",
    "brier_score": "calibration",
    "can_group_by": "subgroups",
    "delong_interval": "delong",
    "delong_test": "delong",
    "expected_calibration_error": "calibration",
    "mcnemar_test": "mcnemar",
    "mean_of": "case_statistics",
    "nested_ensemble": "ensemble_search",
    "reliability_curve": "calibration",
    "score_statistics": "case_statistics",
    "search_ensemble": "ensemble_rule",
    "split_subgroups": "subgroups",
    "subgroup_of": "subgroups",
    "t_test_over_folds": "paired_t_test",
}

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
