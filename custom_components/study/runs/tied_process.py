"""Run a module like ``python -m`` and exit when the parent program ends for any reason.

Usage: ``python -P tied_process.py -m MODULE ARGUMENT ...``. Standard input is a pipe from the parent program; the
operating system closes it when the parent ends.
"""

import os
import runpy
import sys
import threading


def _end_with_starter() -> None:
    os.read(0, 1)  # returns when the parent closes the pipe
    os._exit(1)


def main() -> None:
    """Run the module given on the command line."""
    threading.Thread(target=_end_with_starter, daemon=True).start()
    module, *arguments = sys.argv[2:]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
