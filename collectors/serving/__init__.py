"""Servers of language models, scraped directly or read through a Prometheus server.

Studied: vLLM 0.6 to 0.33 (also under Ray), SGLang 0.5.23, llama.cpp server b11434, Text Generation Inference 3.3,
NVIDIA NIM, Triton with its TensorRT-LLM backend, and TensorRT-LLM's own server. Endpoints: `/metrics` (NIM
`/v1/metrics`, TensorRT-LLM `/prometheus/metrics`), and now and then what tells version and models (`/version`,
`/v1/models`, `/props`, `/info`, `/server_info`). Rights: none on the network, unless the server wants an API key. Known
gaps: each engine's table says which metrics it lacks and what brings them.
"""
