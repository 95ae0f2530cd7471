"""The constants of the vLLM model that no source states: fitted to recorded runs by benchmarks/memory_fit.py.

That script fits them on the families that it names and benchmarks/MEMORY.md shows the errors on those and on the rest.
Sizes in bytes unless the name says otherwise.
"""

# What is left of the peak of a sampling step when every counted buffer is taken off.
SMALL_BUFFERS = 13_000_000

# Bytes per logit where FlashInfer samples (0.10.1.1), and in the newest versions (0.28 and later).
FLASHINFER_LOGIT = 10.75
NEWEST_LOGIT = 9.2

# Growth of MXFP4 experts in the layout that Hopper takes.
HOPPER_MXFP4_GROWTH = 1.064

# Memory that PyTorch's allocator does not see, in GiB: middle, low, high.
NON_TORCH_TURING = (0.05, 0.02, 0.20)
NON_TORCH_V0 = (0.09, 0.02, 0.35)
NON_TORCH_V0_RANKS = (0.25, 0.10, 0.90)  # two runs only, 0.20 without NVLink and 0.74 on an unnamed board
NON_TORCH_V1 = (0.13, 0.02, 0.30)
NON_TORCH_V1_RANKS = (0.25, 0.10, 1.20)
NON_TORCH_V1_NVLINK = (0.55, 0.15, 1.20)  # not fitted: the value recorded for 0.11 on H100
NON_TORCH_018 = (0.25, 0.05, 0.50)
NON_TORCH_018_RANKS = (0.55, 0.10, 2.30)
NON_TORCH_019_NVLINK = (2.09, 0.50, 2.60)  # with NVLink: all-reduce fused with the norms keeps its own buffers

# CUDA graphs in GiB: at once, and per captured batch size; charged to the budget (0.21 and later) or beside it.
GRAPHS_CHARGED = (0.12, 0.0022)
GRAPHS_BESIDE = (0.20, 0.009)
