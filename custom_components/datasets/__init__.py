"""Converters of public data sets, one per set.

Each ``convert_<set>(source, target)`` reads the folder of the unpacked set and atomically writes a new folder with
``images/`` and masks, ``datalist.json`` with the cases, and ``left_out.csv`` with the skipped scans and the reasons.
One bad scan never stops a conversion. ``SET`` in each module gives source and licence; ``table`` lists all sets.
"""
