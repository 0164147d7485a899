"""DICOM objects read by dcmqi and checked by dciodvfy: pip install ".[dicom-check]"."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from custom_components.reports.dicom.structures import PRIVATE_SCHEME
from pydicom import dcmread

from tests.reports.dicom.scans import LABELS, masks_of, on_the_grid, volume_ml


@pytest.fixture
def program() -> Callable[..., str]:
    """Run a program of dcmqi or dicom3tools and return its output."""

    def call(name: str, *arguments: object) -> str:
        found = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
        if found is None:
            pytest.skip(f"{name} is missing: pip install '.[dicom-check]'")
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "encoding": "utf-8"}
        done = subprocess.run([found, *map(str, arguments)], check=False, **pipes)
        assert done.returncode == 0, done.stdout
        return done.stdout

    return call


def test_dcmqi_reads_each_segment_as_its_mask(written, program, tmp_path):
    findings, paths = written
    program("segimage2itkimage", "--inputDICOM", paths["segmentation"], "--outputDirectory", tmp_path, "-t", "nii")
    meta = json.loads((tmp_path / "meta.json").read_text())
    labels = [segment["SegmentLabel"] for group in meta["segmentAttributes"] for segment in group]
    assert sorted(labels) == sorted(LABELS)
    for number, group in enumerate(meta["segmentAttributes"], 1):
        image = nib.load(tmp_path / f"{number}.nii.gz")
        found = on_the_grid(findings, np.asarray(image.dataobj), image.affine)
        for segment in group:
            mask = masks_of(findings)[segment["SegmentLabel"]]
            np.testing.assert_array_equal(found == segment["labelID"], mask, err_msg=segment["SegmentLabel"])


@pytest.mark.parametrize("branch", ["us", "ss"])
def test_dcmqi_reads_the_attention_to_half_a_step(written, program, tmp_path, branch):
    findings, paths = written
    file = paths[f"attention_{branch}"]
    program("paramap2itkimage", "--inputDICOM", file, "--outputDirectory", tmp_path, "-t", "nii")
    image = nib.load(tmp_path / "pmap.nii.gz")
    found = on_the_grid(findings, np.asarray(image.dataobj), image.affine)
    np.testing.assert_allclose(found, getattr(findings, f"attention_{branch}"), rtol=0, atol=1 / 512)


def test_dcmqi_reads_the_measurements(written, program, tmp_path):
    findings, paths = written
    program("tid1500reader", "--inputDICOM", paths["measurements"], "--outputMetadata", tmp_path / "sr.json")
    groups = json.loads((tmp_path / "sr.json").read_text())["Measurements"]
    found = {one["TrackingIdentifier"]: float(one["measurementItems"][0]["value"]) for one in groups}
    for label, mask in masks_of(findings).items():
        assert found[label] == pytest.approx(volume_ml(mask), abs=0.0005)
    assert [one["ReferencedSegment"] for one in groups[:6]] == [1, 2, 3, 4, 5, 6]


def test_dciodvfy_finds_no_error(written, program, tmp_path):
    for path in written[1].values():
        made = dcmread(path)
        made.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"  # dciodvfy cannot inflate
        made.save_as(tmp_path / path.name)
        said = program("dciodvfy", tmp_path / path.name).splitlines()
        unknown_scheme = f"Unrecognized defined term <{PRIVATE_SCHEME}>"
        assert [line for line in said[1:] if unknown_scheme not in line] == []
