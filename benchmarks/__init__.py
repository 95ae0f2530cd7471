"""How fast gpufleet is, measured beside something plain in the same run; `make bench` prints and keeps the results."""
