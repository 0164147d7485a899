"""Write data sets with as many scans, patients and infection ratios as those of Ouyang et al. (2020), for a dry run.

    python docs/paper_scale.py FOLDER

FOLDER/train has 2,186 scans of 1,588 patients in five folds, FOLDER/test 2,796 scans of 2,057 patients (Table I). The
infection ratios follow Table III; in the training data the size groups have the weights of Sec. III-C, about 1.5. All
scans are one file of 8 x 7 x 6 voxels: nothing can be trained on them. `study ... --dry_run` plans the paper's study.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fire
import nibabel as nib
import numpy as np
from custom_components.datalists.folds import assign_folds
from custom_components.datalists.scans import class_label
from custom_components.infection_size import size_group

SHAPE = (8, 7, 6)
NUM_FOLDS = 5
# Patients, and scans by infection ratio (Tables I and III). CAP of the training data below 0.005 is divided so that 655
# scans are at most 0.001, and the weight of large CAP is 655 / 437 = 1.5 (Sec. III-C). The test set is divided alike.
SETS: dict[str, dict[str, tuple[int, dict[float, int]]]] = {
    "train": {
        "covid": (960, {0.003: 151, 0.015: 318, 0.1: 625}),
        "cap": (628, {0.0005: 655, 0.003: 183, 0.015: 183, 0.1: 71}),
    },
    "test": {
        "covid": (1605, {0.003: 363, 0.015: 718, 0.1: 1214}),
        "cap": (452, {0.0005: 341, 0.003: 95, 0.015: 41, 0.1: 24}),
    },
}
KINDS = ("image", "lung", "infection")


def entries(name: str) -> Iterator[dict[str, Any]]:
    """Entries of a data set without folds; the first patients of a class have two scans each."""
    for label, (patients, counts) in SETS[name].items():
        ratios = [ratio for ratio, count in counts.items() for _ in range(count)]
        for number, ratio in enumerate(np.random.default_rng(0).permutation(ratios).tolist()):
            case_id = f"{name}_{label}_{number:04d}"
            yield {
                "case_id": case_id,
                "patient_id": f"{name}_{label}_{number % patients:04d}",
                **{kind: f"{kind}s/{case_id}.nii" for kind in KINDS},
                "label": label,
                "ratio": ratio,
                "group": size_group(class_label(label), ratio),
            }


def write_set(folder: Path, name: str, volume: Path) -> None:
    """Write a data set whose files are links to one volume."""
    cases = list(entries(name))
    labelled = [{**case, "label": class_label(case["label"])} for case in cases]
    folds = assign_folds(labelled, NUM_FOLDS) if name == "train" else [0] * len(cases)
    for kind in KINDS:
        (folder / name / f"{kind}s").mkdir(parents=True)
        for case in cases:
            os.link(volume, folder / name / case[kind])
    content = {"cases": [{**case, "fold": fold} for case, fold in zip(cases, folds, strict=True)]}
    (folder / name / "datalist.json").write_text(json.dumps(content), encoding="utf-8")


def main(folder: str) -> None:
    """Write both data sets into a new folder."""
    root = Path(folder)
    root.mkdir(parents=True)
    volume = root / "scan.nii"
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.uint8), np.diag([-2.0, -3.0, 4.0, 1.0])), volume)
    for name in SETS:
        write_set(root, name, volume)


if __name__ == "__main__":
    fire.Fire(main)
