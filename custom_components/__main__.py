"""Command line: ``python -m custom_components VERB --help``."""

import logging

import fire

from custom_components import phantom
from custom_components.data.medseg import convert_jpg, convert_medseg

VERBS = {
    "convert_jpg": convert_jpg,
    "convert_medseg": convert_medseg,
    "phantom_slices": phantom.write_slice_dataset,
    "phantom_volumes": phantom.write_volume_dataset,
}


def main() -> None:
    """Run one verb."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    fire.Fire(VERBS, name="python -m custom_components")


if __name__ == "__main__":
    main()
