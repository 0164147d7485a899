"""Synthetic chest CT: built-in data and ground truth for tests.

A phantom is generated from a seed: anatomy in mm (so that it can be sampled on any grid), lesions of given volume, HU
values, blur and noise of a scanner. It resembles a chest CT in geometry, value ranges, class balance, and in lesions
that no threshold separates. It says nothing about accuracy on patients.
"""

from custom_components.phantom.dataset import phantom_dataset, write_slice_dataset, write_volume_dataset
from custom_components.phantom.dicom import write_dicom, write_localizer
from custom_components.phantom.generate import make_scan, make_slice, make_volume
from custom_components.phantom.nifti import write_nifti
from custom_components.phantom.phantom import Phantom
from custom_components.phantom.scan_dataset import phantom_scan_dataset, write_scan_dataset

__all__ = [
    "Phantom",
    "make_scan",
    "make_slice",
    "make_volume",
    "phantom_dataset",
    "phantom_scan_dataset",
    "write_dicom",
    "write_localizer",
    "write_nifti",
    "write_scan_dataset",
    "write_slice_dataset",
    "write_volume_dataset",
]
