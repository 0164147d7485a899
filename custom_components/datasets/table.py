"""Table of the public data sets with a converter."""

from custom_components.datasets import covid20_volumes, lctsc, medseg_volumes, plethora
from custom_components.datasets.conversion import PublicSet

SETS = (
    PublicSet(
        name="COVID-CT-MD",
        purpose="COVID-19 or CAP",
        patients="169 COVID-19, 60 CAP, 76 normal",
        labels="diagnosis; slices and lobes for some",
        licence="none stated",
        size="not stated",
        page="https://github.com/ShahinSHH/COVID-CT-MD",
        citation="Afshar et al. 2021, doi:10.1038/s41597-021-00900-3",
        command="convert_covid_ct_md SOURCE LIST",
    ),
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
