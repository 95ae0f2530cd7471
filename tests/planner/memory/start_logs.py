"""A start-up log in vLLM's words, written for tests; the numbers were chosen, not measured."""

VLLM_LOG = """
INFO 11-01 10:00:02 [core.py:77] Initializing a V1 LLM engine (v0.11.0) with config: model='meta-llama/Llama-3.1-8B', speculative_config=None, dtype=torch.bfloat16, max_seq_len=8192, tensor_parallel_size=1, quantization=None, enforce_eager=False, kv_cache_dtype=auto
INFO 11-01 10:00:12 [gpu_worker.py:210] Free memory on device (78.60/79.11 GiB) on startup.
INFO 11-01 10:00:20 [gpu_model_runner.py:2653] Model loading took 15.2000 GiB and 3.1 seconds
INFO 11-01 10:00:49 [gpu_worker.py:290] 4.17 GiB for peak activation
INFO 11-01 10:00:50 [gpu_worker.py:298] Available KV cache memory: 51.30 GiB
INFO 11-01 10:00:50 [kv_cache_utils.py:1087] GPU KV cache size: 420,240 tokens
INFO 11-01 10:00:50 [kv_cache_utils.py:1091] Maximum concurrency for 8,192 tokens per request: 51.30x
"""  # noqa: E501
