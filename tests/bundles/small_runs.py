"""Both bundles with data, networks and options as small as they run: for what holds in each of them."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from custom_components.engines.root_cause import root_cause
from custom_components.phantom import write_scan_dataset, write_slice_dataset

from tests.bundles.cap.conftest import BUNDLE as CAP
from tests.bundles.conftest import Bundle
from tests.bundles.seg.conftest import BUNDLE as SEG


@dataclass(frozen=True)
class Subject:
    """A bundle under test.

    Args:
        bundle: itself.
        training: options of a training of one epoch.
        evaluation: options of an evaluation.
        inference: options of an inference.
        lister: function that lists its cases.
        loaded_by: method through which a process that loads reads the cases of a training.
        report: end of the name of an inferred case's report.
        score: name of the validation score in TensorBoard.
        another: an option that makes another network.
    """

    bundle: Bundle
    training: dict[str, Any]
    lister: str
    loaded_by: str
    report: str
    score: str
    another: dict[str, Any]
    evaluation: dict[str, Any] = field(default_factory=dict)
    inference: dict[str, Any] = field(default_factory=dict)

    @property
    def masks(self) -> str:
        """Folder of the masks that a training needs."""
        return "masks" if self.bundle is SEG else "lungs"

    def write_data(self, folder: Path) -> Path:
        """Write the data of :func:`write_small_data`."""
        return write_small_data(self.bundle, folder)


def write_small_data(bundle: Bundle, folder: Path) -> Path:
    """Eight slices of four patients, or four scans of each disease in two folds."""
    if bundle is SEG:
        return write_slice_dataset(folder, num_slices=8, size=(40, 36), seed=1, num_patients=4)
    return write_scan_dataset(folder, 8, (56, 52, 24), (6.7, 6.9, 11.7), num_folds=2)


SUBJECTS = {
    "cap": Subject(
        CAP,
        training={"num_workers": 0, "epochs": 1, "fold": 0, "batch_size": 2, "cache_dir": "cache"},
        lister="custom_components.list_scans",
        loaded_by="custom_components.data.scan_cache.ScanCache._transform",
        report="_diagnosis.json",
        score="val_auc",
        another={"block_inplanes": [8, 16, 32, 40]},
        evaluation={"num_workers": 0, "cache_dir": "cache"},
    ),
    "seg": Subject(
        SEG,
        training={"num_workers": 0, "epochs": 1, "num_folds": 4, "draws_per_image": 1, "batch_size": 2},
        lister="custom_components.list_cases",
        loaded_by="custom_components.data.seeded_draws.SeededDraws.__getitem__",
        report="_lesions.json",
        score="val_mean_dice",
        another={"network_def#features": [8, 16]},
        evaluation={"overlay_slices": 0},
        inference={"overlay_slices": 1, "progress": False},
    ),
}


class SmallRuns:
    """Fixtures of the classes of tests that hold in both bundles."""

    @pytest.fixture(scope="class", params=list(SUBJECTS))
    def subject(self, request: pytest.FixtureRequest) -> Subject:
        return SUBJECTS[request.param]

    @pytest.fixture(scope="class")
    def written(self, subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return subject.write_data(tmp_path_factory.mktemp("written") / "data")

    @pytest.fixture
    def data(self, written: Path, tmp_path: Path) -> Path:
        """A copy of the cases, to spoil."""
        return shutil.copytree(written, tmp_path / "data")

    @pytest.fixture
    def case(self, data: Path) -> str:
        """Name of the second case."""
        return sorted(path.name.split(".")[0] for path in (data / "images").iterdir())[1]

    @pytest.fixture
    def places(self, tmp_path: Path, data: Path) -> dict[str, Path]:
        return {"dataset_dir": data, "output_dir": tmp_path / "out", "ckpt_dir": tmp_path / "models"}

    @pytest.fixture(scope="class")
    def weights(self, subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
        """Random weights of the network of each config."""
        paths = {}
        for config in ("evaluate.yaml", "inference.json"):
            parser = subject.bundle.parser_of(config)
            parser.update({"bundle_root": str(subject.bundle.folder), **subject.bundle.small})
            paths[config] = tmp_path_factory.mktemp("weights") / "model.pt"
            torch.save(parser.get_parsed_content("network_def").state_dict(), paths[config])
        return paths

    @pytest.fixture
    def run(self, subject: Subject, places: dict[str, Path], weights: dict[str, Path]) -> Callable[..., None]:
        """A training, evaluation or inference, by the name of its config."""
        kinds = {
            "train.yaml": ("training", subject.training),
            "evaluate.yaml": ("evaluating", subject.evaluation),
            "inference.json": ("run", subject.inference),
        }

        def call(config: str, **changes: Any) -> None:
            run_id, options = kinds[config]
            given = {**({"ckpt_path": weights[config]} if config in weights else {}), **places, **options, **changes}
            subject.bundle.run(config, run_id, **given)

        return call

    @pytest.fixture
    def fails(self, run: Callable[..., None]) -> Callable[..., str]:
        """Run what fails; the last line of its output."""

        def call(config: str, **changes: Any) -> str:
            with pytest.raises((RuntimeError, OSError, ValueError)) as caught:
                run(config, **changes)
            return root_cause(caught.value)

        return call
