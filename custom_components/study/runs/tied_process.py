"""Start a module as ``python -m`` does, and end when the program that started it ends, however that happens.

Started by its path: ``python -P tied_process.py -m MODULE ARGUMENT ...``. Its standard input is a pipe whose other end
the starting program holds, and which the system closes with that program.
"""

import os
import runpy
import sys
import threading


def _end_with_starter() -> None:
    os.read(0, 1)  # comes back when nobody holds the other end
    os._exit(1)


def main() -> None:
    """Run the module that the command line names."""
    threading.Thread(target=_end_with_starter, daemon=True).start()
    module, *arguments = sys.argv[2:]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
