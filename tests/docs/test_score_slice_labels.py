import csv
import runpy
from pathlib import Path

import nibabel
import numpy as np
import pytest
from custom_components.dicom.series import check_dicom_series
from custom_components.phantom import make_volume, write_dicom
from custom_components.phantom.nifti import write_nifti_array
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from pydicom import dcmread
from sklearn.metrics import roc_auc_score

SCRIPT = runpy.run_path(str(Path(__file__).resolve().parents[2] / "docs" / "score_slice_labels.py"))
MARKED, INFECTED = (1, 2, 5), {5: 4, 3: 2, 1: 1}  # by index from the head; voxels of the mask in a slice


@pytest.fixture
def patient(tmp_path):
    """SliceLocation falls where the third axis of the volume rises, so that its first slice is the first label's."""
    phantom = make_volume(0, (36, 32, 8), (10.0, 8.0, 5.0), lesions_ml={})
    write_dicom(phantom, tmp_path / "P7")
    files = check_dicom_series(tmp_path / "P7").files
    for number, path in enumerate(files):
        image = dcmread(path)
        image.SliceLocation = -5.0 * number
        image.save_as(path)
    with (tmp_path / "P7_slices.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["slice_index_sorted_by_SliceLocation", "infected"])
        table.writerows((rank, int(rank in MARKED)) for rank in range(8))
    case = str(dcmread(files[0]).SeriesInstanceUID)
    infection, lungs = np.zeros((2, 36, 32, 8), np.uint8)
    lungs[:3], lungs[-2:] = 1, 2
    for rank, voxels in INFECTED.items():
        infection[:voxels, 0, rank] = 1
    for name, mask in (("infection", infection), ("lungs", lungs)):
        folder = tmp_path / "out" / case
        folder.mkdir(parents=True, exist_ok=True)
        write_nifti_array(mask, phantom, folder / f"{case}_{name}.nii.gz")
    return tmp_path


def test_labels_are_matched_by_slice_location(patient):
    found = SCRIPT["score"](patient / "P7", patient / "P7_slices.csv", patient / "out", "infection")
    areas = [INFECTED.get(rank, 0) * 0.8 for rank in range(8)]
    assert found.area_cm2.tolist() == pytest.approx(areas)
    assert found.auc == roc_auc_score([rank in MARKED for rank in range(8)], areas) == 11 / 15
    assert found.lungs_ml == pytest.approx((3 * 32 * 8 * 0.4, 2 * 32 * 8 * 0.4))


def test_labels_can_be_read_from_the_feet(patient):
    found = SCRIPT["score"](patient / "P7", patient / "P7_slices.csv", patient / "out", "infection", from_feet=True)
    assert found.area_cm2.tolist() == pytest.approx([INFECTED.get(7 - rank, 0) * 0.8 for rank in range(8)])
    assert np.flatnonzero(found.marked).tolist() == list(MARKED)


def test_a_line_and_a_figure_come_out(patient, capsys):
    SCRIPT["main"](str(patient), str(patient / "out"), figure=str(patient / "slices.png"))
    assert capsys.readouterr().out.startswith("P7: AUC 0.733; 8 slices, 3 marked, 3 with mask, 2 with both")
    assert (patient / "slices.png").read_bytes().startswith(b"\x89PNG")


def test_label_maps_of_the_segmentation_count_with_the_labels_that_are_named(patient, capsys):
    (diagnosed,) = (patient / "out").iterdir()
    image = nibabel.load(diagnosed / f"{diagnosed.name}_infection.nii.gz")
    labels = np.asarray(image.dataobj) * np.where(np.arange(8) == 5, 3, 1)
    (patient / "seg/P7").mkdir(parents=True)
    nibabel.save(nibabel.Nifti1Image(labels.astype(np.uint8), image.affine), patient / "seg/P7/P7_seg.nii.gz")
    SCRIPT["main"](str(patient), str(patient / "seg"), mask="seg", values=[1, 2])
    assert capsys.readouterr().out == "P7: AUC 0.533; 8 slices, 3 marked, 2 with mask, 1 with both\n"


def test_labels_of_another_series_are_refused(patient):
    with (patient / "P7_slices.csv").open("a", encoding="utf-8") as file:
        file.write("8,0\n")
    with pytest.raises(ValueError, match=r"P7_slices\.csv has 9 slices, the series 8"):
        SCRIPT["main"](str(patient), str(patient / "out"))


def test_each_marked_slice_is_shaded_even_if_alone(patient):
    one = SCRIPT["score"](patient / "P7", patient / "P7_slices.csv", patient / "out", "infection")
    axes = Figure().subplots()
    SCRIPT["draw"](axes, one, "infection")
    shaded = [bar.get_x() + bar.get_width() / 2 for bar in axes.patches if isinstance(bar, Rectangle)]
    assert shaded == pytest.approx(MARKED)
