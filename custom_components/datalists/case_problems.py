"""Collect problems of a data set's cases and report them together."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from custom_components.images.ct_reader import ImageHeader, case_name, image_header
from custom_components.images.geometry import mask_mismatch

SHOWN_PROBLEMS, SHOWN_NAMES = 10, 5
# Longest case id; the rest of an output's file name must fit too.
MOST_NAME_BYTES = 200
# Characters shown of an invalid case id in a message.
MOST_NAME_LETTERS = 40


def shorten(names: Sequence[str]) -> str:
    """The first names of a list, and the count of the others.

    Example:
        >>> shorten(["1", "2", "3", "4", "5", "6", "7"])
        '1, 2, 3, 4, 5 and 2 more'
    """
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return ", ".join(names[:SHOWN_NAMES]) + more


def id_problems(case_ids: Iterable[str]) -> list[str]:
    """Problems with case ids that occur more than once or cannot be file names."""
    counts = Counter(case_ids)
    doubled = [name for name, count in counts.items() if count > 1]
    unsafe = [name for name in counts if not can_be_file_name(name)]
    problems = []
    if doubled:
        problems.append(f"{len(doubled)} case ids occur more than once: {shorten(doubled)}. Rename the files or ids")
    if unsafe:
        shown = shorten([json.dumps(name, ensure_ascii=False)[:MOST_NAME_LETTERS] for name in unsafe])
        problems.append(f"{len(unsafe)} case ids cannot be file names: {shown}. Use letters and digits")
    return problems


def can_be_file_name(case_id: str) -> bool:
    r"""Whether a case id is a valid file name: a single name, not empty or too long, without control characters.

    Example:
        >>> [can_be_file_name(name) for name in ("covid 1", "", "..", "../../x", "a\nb")]
        [True, False, False, False, False]
    """
    is_one = case_id not in ("", ".", "..") and not re.search(r"[/\\\x00-\x1f\x7f]", case_id)
    return is_one and len(case_id.encode(errors="replace")) <= MOST_NAME_BYTES


def output_name_problems(cases: Sequence[Mapping[str, Any]]) -> list[str]:
    """Problems with cases that would overwrite each other's outputs, which are named after the image file."""
    counts = Counter(case_name(case["image"]) for case in cases if "image" in case)
    doubled = [name for name, count in counts.items() if count > 1]
    if not doubled:
        return []
    return [
        f"{len(doubled)} names of images occur more than once: {shorten(doubled)}. Results are named after the image "
        "file: rename the files, or run them separately"
    ]


def shared_image_problems(cases: Sequence[Mapping[str, Any]]) -> list[str]:
    """Problems with cases that share an image, which could then be in both training and validation."""
    counts = Counter(case["image"] for case in cases if "image" in case)
    shared = [case["case_id"] for case in cases if counts[case.get("image")] > 1]
    return [f"{len(shared)} cases share an image: {shorten(shared)}. List each image once"] if shared else []


def header_problems(case: Mapping[str, Any], mask_keys: Sequence[str], mask_kinds: str = "PNG or NIfTI") -> list[str]:
    """Problems visible in the headers: unusable files, and masks that are misaligned with their image.

    Args:
        case: ``case_id``, and the paths ``image`` and masks.
        mask_keys: keys of the masks; missing ones are skipped.
        mask_kinds: supported kinds of mask files, for the message.

    Returns:
        Sentences that name the case.
    """
    headers, problems = case_headers(case, mask_keys, mask_kinds)
    return problems + geometry_problems(case, headers)


def case_headers(
    case: Mapping[str, Any], mask_keys: Sequence[str], mask_kinds: str = "PNG or NIfTI"
) -> tuple[dict[str, ImageHeader], list[str]]:
    """Headers of a case's files by key, and problems of the others; arguments as ``header_problems``."""
    headers: dict[str, ImageHeader] = {}
    problems = []
    for key in (key for key in ("image", *mask_keys) if key in case):
        if key != "image" and Path(case[key]).is_dir():
            problems.append(f"Case {case['case_id']}: {key} is a folder. Expected a {mask_kinds} mask")
            continue
        try:
            headers[key] = image_header(case[key])
        except ValueError as error:
            problems.append(f"{key}: {error}")
    return headers, problems


def geometry_problems(case: Mapping[str, Any], headers: Mapping[str, ImageHeader]) -> list[str]:
    """Problems with misaligned masks; none when the image's header is missing."""
    if "image" not in headers:
        return []
    found = ((key, mask_mismatch(headers["image"], mask)) for key, mask in headers.items() if key != "image")
    return [f"Case {case['case_id']}: {key} {what}" for key, what in found if what]


def problem_report(root: Path, problems: Sequence[str]) -> str:
    """One message with the problems of a data set, the first ten in full."""
    shown = [f"  - {problem}" for problem in problems[:SHOWN_PROBLEMS]]
    more = len(problems) - len(shown)
    end = [f"  ... and {more} more"] if more else []
    count = f"{len(problems)} problem{'' if len(problems) == 1 else 's'}"
    return "\n".join([f"Data set {root} has {count}:", *shown, *end])
