"""NVML: the GPUs of this machine, asked through the driver's own library; no exporter is needed.

Studied: nvidia-ml-py 13.615.71 against drivers 470 to 610, by NVIDIA's header and recorded answers. Endpoint:
libnvidia-ml.so.1. Cadence: as configured; the driver averages most values over a second or less. Rights: none for most;
root (in a container: privileged, NVIDIA_MIG_CONFIG_DEVICES=all) for where a GPU instance lies, the host's PID namespace
for processes. Known gaps: no utilisation under MIG, activity of SMs and memory only from Hopper on, and of pods only
those that have a process on a GPU.
"""
