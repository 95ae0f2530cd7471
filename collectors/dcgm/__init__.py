"""dcgm-exporter, scraped directly or read through a Prometheus server.

Studied: dcgm-exporter 1.x to 4.9.0 (DCGM 1.x to 4.7). Endpoint: `/metrics`, port 9400, Prometheus text format.
Cadence: the exporter itself reads the GPU every 30 s by default; scraping faster repeats values. Rights: none on the
network; profiling fields (`PROF_*`) need SYS_ADMIN in the exporter's own container. Known gaps: no placement of a GPU
instance (`gpufleet agent`, which speaks the same format, tells it), no utilisation under MIG, no processes.
"""
