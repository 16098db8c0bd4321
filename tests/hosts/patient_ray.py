"""Ray's command line with ten times its patience: a node has 30 s to come up, on a busy machine too few.

python patient_ray.py start --head ...
"""

from __future__ import annotations

import sys
import time
import types

import ray._private.node
from ray.scripts.scripts import main

SLOWER = 10

if __name__ == "__main__":
    clock = types.SimpleNamespace(**vars(time))
    clock.monotonic = lambda: time.monotonic() / SLOWER
    ray._private.node.time = clock
    sys.exit(main())
