"""`python -m gpufleet` is the command `gpufleet`."""

from gpufleet.cli import main

main()
