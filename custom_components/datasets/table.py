"""Table of the public data sets with a converter."""

from custom_components.datasets import (
    cc_ccii,
    covid19_20,
    covid20_volumes,
    covid_ct_md,
    lctsc,
    medseg_volumes,
    mosmed,
    plethora,
    spgc_covid,
    stoic2021,
)
from custom_components.datasets.conversion import PublicSet

SETS = (
    covid_ct_md.SET,
    spgc_covid.SET,
    cc_ccii.SET,
    PublicSet(
        name="SIRM / MedSeg, 100 slices",
        purpose="lesion classes",
        patients="more than 40 (100 slices)",
        labels="ground-glass, consolidation, pleural effusion",
        licence="CC0",
        size="not stated",
        page="https://medicalsegmentation.com/covid19/",
        citation="MedSeg, Jenssen and Sakinis 2021, doi:10.6084/m9.figshare.13521488",
        command="convert_medseg tr_im.nii.gz tr_mask.nii.gz TARGET",
    ),
    medseg_volumes.SET,
    covid20_volumes.SET,
    plethora.SET,
    lctsc.SET,
    covid19_20.SET,
    mosmed.SET,
    stoic2021.SET,
)


def datasets() -> str:
    """The public data sets as a Markdown table: purpose, patients, labels, licence, size, page and command.

    Returns:
        One row per set; each command is one of ``python -m custom_components``.
    """
    lines = ["| set | for | patients | labels | licence | size | command |", "|---|---|---|---|---|---|---|"]
    for one in SETS:
        cells = (one.purpose, one.patients, one.labels, one.licence, one.size, f"`{one.command}`")
        lines.append(f"| [{one.name}]({one.page}) | {' | '.join(cells)} |")
    return "\n".join(lines)
