"""An hour of every source together against the simulated cluster with faults; `python -m benchmarks.endurance`."""
