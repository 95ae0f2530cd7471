"""Which units the inside of gpufleet speaks: base units, spelled as the suffix of the name.

`_bytes _s _ratio _watts _joules _tokens _per_s _usd _hertz _celsius`. Ratios run from 0 to 1. GiB and % are
made for people: in the sentences of `planner/sentences.py` and in `dashboard/formatting.py`, nowhere else.
"""

from typing import NewType

KIB = 1024
MIB = 1024**2
GIB = 1024**3

GpuUuid = NewType("GpuUuid", str)
"""NVIDIA's name for one physical GPU, `GPU-xxxxxxxx-...`; the key of all history."""
NodeName = NewType("NodeName", str)
