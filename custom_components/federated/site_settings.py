"""What a job of a federation sets at a site, and the bundle's training with these settings."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from custom_components.diagnosis.bundle_network import bundle_folder
from monai.bundle import ConfigWorkflow

# Where a hospital says which data and which folder the training may use, if the job does not.
DATA_VARIABLE, FOLDER_VARIABLE, TEST_VARIABLE = "COVID_SITE_DATA", "COVID_SITE_FOLDER", "COVID_SITE_TEST_DATA"
# The classifier's own split refuses a site with one disease; in a federation the others have the second one.
ANY_LABELS = {"custom_components.select_fold": "custom_components.hold_out_fold"}


@dataclass(frozen=True)
class SiteSettings:
    """What a job sets at a site.

    Args:
        bundle: name or path of the bundle.
        configs: config files in its ``configs``, overlays last.
        overrides: config values by id.
        local_epochs: epochs of a round.
        dataset_dir: data of the site; by default from the environment, ``COVID_SITE_DATA``.
        site_dir: folder for the site's own files; by default ``COVID_SITE_FOLDER``.
        test_dir: data for the final scores only; by default ``COVID_SITE_TEST_DATA``, which may be missing.
    """

    bundle: str
    configs: tuple[str, ...] = ("train.yaml",)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    local_epochs: int = 1
    dataset_dir: str | None = None
    site_dir: str | None = None
    test_dir: str | None = None

    @classmethod
    def from_json(cls, text: str) -> "SiteSettings":
        """Read settings; what is not set comes from the environment.

        Raises:
            ValueError: when the data or the folder of the site is not set.
        """
        given = json.loads(text)
        known = {"dataset_dir": DATA_VARIABLE, "site_dir": FOLDER_VARIABLE, "test_dir": TEST_VARIABLE}
        for name, variable in known.items():
            given[name] = given.get(name) or os.environ.get(variable)
            if not given[name] and name != "test_dir":
                raise ValueError(f"{variable} is not set in the environment of this site. Set it to a folder.")
        return cls(**{**given, "configs": tuple(given["configs"])})

    def bundle_root(self) -> Path:
        """Folder of the bundle."""
        given = Path(self.bundle)
        return given.resolve() if (given / "configs").is_dir() else bundle_folder(given.name)

    def config_files(self) -> list[str]:
        """Paths of the config files.

        Raises:
            ValueError: names a missing one.
        """
        files = [self.bundle_root() / "configs" / name for name in self.configs]
        for file in files:
            if not file.is_file():
                raise ValueError(f"{file} is missing. Expected a config file of the bundle, such as train.yaml.")
        return [str(file) for file in files]


def read_workflow(settings: SiteSettings, **values: Any) -> ConfigWorkflow:
    """A bundle's training as a MONAI workflow, without validation inside the local training.

    Args:
        settings: settings of the site.
        values: config values that have precedence over those of the settings.
    """
    given = {"bundle_root": str(settings.bundle_root()), **settings.overrides, **values}
    files = settings.config_files()
    workflow = ConfigWorkflow(files, meta_file=None, logging_file=False, workflow_type="train", **given)
    parser = workflow.parser
    if parser.get("split", {}).get("_target_") in ANY_LABELS:
        parser["split"]["_target_"] = ANY_LABELS[parser["split"]["_target_"]]
    for handler in parser["train"]["handlers"]:
        if isinstance(handler, dict) and handler.get("_target_") == "ValidationHandler":
            handler["_disabled_"] = True  # the federation's model is validated instead, once per round
    return workflow
