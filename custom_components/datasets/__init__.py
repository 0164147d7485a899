"""Public data sets in their published form, one converter a set.

The rule of this room: ``convert_<set>(source, target)`` takes the folder that a set was unpacked into and writes a new
folder, all of it or nothing: ``images/`` and masks, ``datalist.json`` with the cases, and ``left_out.csv`` with those
that were left out and why. One odd scan never ends a conversion. Each module says in ``SET`` where the set comes from
and under which licence; ``table`` lists them.
"""
