"""Start `timelocal` again and again without importing torch each time.

Says "ready", then reads command lines (JSON lists) from stdin. For each: forks, prints the child's
id, lets the child run the command, waits for it, prints its exit status as `os.waitpid` gives it.
"""

from __future__ import annotations

import json
import os
import sys

import sklearn.linear_model  # noqa: F401 — imported once, for all children

import timelocal.cli.summary  # noqa: F401
from timelocal.cli.app import app

print("ready", flush=True)
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
        try:
            app(json.loads(line), standalone_mode=False)
        finally:
            os._exit(int(sys.exc_info()[0] is not None))
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
