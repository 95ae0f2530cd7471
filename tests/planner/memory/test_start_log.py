"""Start-up logs of every version band give what they printed, and nothing else; no text makes the reader fail."""

import time
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.memory.estimate import Engine
from planner.memory.log_lines import MAX_CHARS, MAX_LINE
from planner.memory.measured import Measured, StartFailure
from planner.memory.start_log import parse_start_log
from planner.units import GIB, MIB

V0 = """
INFO 05-21 18:17:01 llm_engine.py:234] Initializing an LLM engine (v0.7.3) with config: model='/models/a', speculative_config=None, dtype=torch.bfloat16, max_seq_len=8192, tensor_parallel_size=1, quantization=None, enforce_eager=False, kv_cache_dtype=auto,
INFO 05-21 18:17:09 model_runner.py:1115] Loading model weights took 14.9888 GB
INFO 05-21 18:17:10 worker.py:267] Memory profiling takes 1.20 seconds
INFO 05-21 18:17:10 worker.py:267] the current vLLM instance can use total_gpu_memory (79.25GiB) x gpu_memory_utilization (0.90) = 71.32GiB
INFO 05-21 18:17:10 worker.py:267] model weights take 14.99GiB; non_torch_memory takes 0.12GiB; PyTorch activation peak memory takes 1.26GiB; the rest of the memory reserved for KV Cache is 54.95GiB.
INFO 05-21 18:17:10 executor_base.py:111] # cuda blocks: 28134, # CPU blocks: 2048
INFO 05-21 18:17:10 executor_base.py:116] Maximum concurrency for 8192 tokens per request: 54.95x
INFO 05-21 18:17:30 model_runner.py:1563] Graph capturing finished in 18 secs, took 0.34 GiB
"""  # noqa: E501

V1_EARLY = """
INFO 04-25 07:45:57 [core.py:61] Initializing a V1 LLM engine (v0.8.3) with config: model='m', speculative_config=None, dtype=torch.float16, max_seq_len=32768, tensor_parallel_size=8, quantization=fp8, kv_cache_dtype=fp8,
(VllmWorker rank=0 pid=1) INFO 04-25 07:46:57 [gpu_model_runner.py:1273] Model loading took 3.9700 GiB and 41.9 seconds
(VllmWorker rank=1 pid=2) INFO 04-25 07:46:57 [gpu_model_runner.py:1273] Model loading took 4.0100 GiB and 41.9 seconds
INFO 04-25 07:47:20 [kv_cache_utils.py:578] GPU KV cache size: 2,405,312 tokens
INFO 04-25 07:47:20 [kv_cache_utils.py:581] Maximum concurrency for 32,768 tokens per request: 73.40x
INFO 04-25 07:47:20 [kv_cache_utils.py:578] GPU KV cache size: 2,401,104 tokens
INFO 04-25 07:47:20 [kv_cache_utils.py:581] Maximum concurrency for 32,768 tokens per request: 73.28x
"""  # noqa: E501

V1_011 = """
(EngineCore_DP0 pid=2) INFO 10-23 15:14:00 [core.py:77] Initializing a V1 LLM engine (v0.11.0) with config: model='q', speculative_config=None,
(Worker_TP0 pid=1) INFO 10-23 15:14:56 [gpu_worker.py:298] Available KV cache memory: 44.59 GiB
(Worker_TP0 pid=1) INFO 10-23 15:14:56 [gpu_worker.py:391] Free memory on device (139.21/139.81 GiB) on startup. Desired GPU memory utilization is (0.9, 125.83 GiB). Actual usage is 74.28 GiB for weight, 5.58 GiB for peak activation, 1.38 GiB for non-torch memory, and 2.37 GiB for CUDAGraph memory. Replace gpu_memory_utilization config with `--kv-cache-memory=45175492096` to fit into requested memory, or `--kv-cache-memory=59540753920` to fully utilize gpu memory. Current kv cache memory in use is 47878721024 bytes.
"""  # noqa: E501

V1_LATE = """
(APIServer pid=9) INFO 09-03 03:38:00 [api_utils.py:286] non-default args: {'model_tag': 'x', 'model': '/models/x', 'max_model_len': 262144, 'gpu_memory_utilization': 0.97, 'max_num_batched_tokens': 4096, 'max_num_seqs': 1}
(EngineCore pid=1) INFO 09-03 03:39:00 [core.py:133] Initializing a V1 LLM engine (v0.29.0) with config: model='/models/x', speculative_config=None, dtype=torch.bfloat16,
(EngineCore pid=1) DEBUG 09-03 03:39:01 [gpu_worker.py:1] Memory profiling takes 31.20 seconds. Total non KV cache memory: 83.53GiB; torch peak memory increase: 1.78GiB; total consumed (from mem_get_info): 81.70GiB; weights memory: 79.87GiB.
(EngineCore pid=1) INFO 09-03 03:39:28 [gpu_model_runner.py:6365] Estimated CUDA graph memory: 0.37 GiB total
(EngineCore pid=1) INFO 09-03 03:39:30 [gpu_worker.py:667] CUDA graph pool memory: 0.28 GiB (actual), 0.37 GiB (estimated), difference: 0.09 GiB (24.3%).
(EngineCore pid=1) INFO 09-03 03:39:30 [gpu_worker.py:804] Free memory on device cuda:0 (94.41/94.97 GiB) on startup. Desired GPU memory utilization is (0.97, 92.12 GiB). Actual usage is 81.7 GiB for consumed memory (weights + non-torch), 1.78 GiB for peak activation, and 0.28 GiB for CUDAGraph memory. Current kv cache memory in use is 8.64 GiB.
(EngineCore pid=1) INFO 09-03 03:39:31 [kv_cache_utils.py:2235] GPU KV cache size: 315,039 tokens, Maximum concurrency for 262,144 tokens per request: 1.20x
"""  # noqa: E501


TOO_LONG = (
    "ValueError: To serve at least one request with the models's max seq len (118000), (6.30 GiB KV cache is needed, "
    "which is larger than the available KV cache memory (6.11 GiB). Based on the available memory, the estimated "
    "maximum model length is 114432."
)
TOO_LONG_IN_V0 = (
    "ValueError: The model's max seq len (131072) is larger than the maximum number of tokens that can be stored in "
    "KV cache (18832)."
)
NOT_FREE = (
    "ValueError: Free memory on device cuda:0 (15.32/22.04 GiB) on startup is less than desired GPU memory "
    "utilization (0.88, 19.39 GiB). Decrease GPU memory utilization"
)


def gib(value: float) -> int:
    return round(value * GIB)


def test_v0_says_blocks_and_terms() -> None:
    found = parse_start_log(V0)
    assert (found.engine, found.engine_version, found.model) == (Engine.VLLM, "0.7.3", "/models/a")
    assert (found.dtype, found.quantization, found.kv_cache_dtype) == ("bfloat16", None, None)
    assert (found.max_model_len, found.tensor_parallel, found.enforce_eager) == (8192, 1, False)
    assert (found.device_bytes, found.budget_bytes) == (gib(79.25), gib(71.32))
    assert found.gpu_memory_utilization == 0.9
    assert found.weights_bytes == gib(14.99)
    assert (found.non_torch_bytes, found.activation_bytes) == (gib(0.12), gib(1.26))
    assert (found.kv_cache_bytes, found.graph_bytes) == (gib(54.95), gib(0.34))
    assert (found.gpu_blocks, found.cpu_blocks) == (28134, 2048)
    assert (found.max_concurrency, found.concurrency_context) == (54.95, 8192)
    assert found.kv_cache_tokens is None  # it printed blocks only


def test_ranks_count_by_the_largest_need_and_the_smallest_pool() -> None:
    found = parse_start_log(V1_EARLY)
    assert found.engine_version == "0.8.3"
    assert (found.tensor_parallel, found.quantization, found.kv_cache_dtype) == (8, "fp8", "fp8")
    assert found.weights_bytes == gib(4.01)
    assert found.kv_cache_tokens == 2_401_104
    assert found.max_concurrency == 73.28


def test_the_summary_line_of_v1() -> None:
    found = parse_start_log(V1_011)
    assert (found.free_at_start_bytes, found.device_bytes) == (gib(139.21), gib(139.81))
    assert (found.weights_bytes, found.activation_bytes) == (gib(74.28), gib(5.58))
    assert (found.non_torch_bytes, found.graph_bytes) == (gib(1.38), gib(2.37))
    assert found.kv_cache_bytes == gib(44.59)


def test_later_versions_print_weights_and_non_torch_together() -> None:
    found = parse_start_log(V1_LATE)
    assert (found.weights_bytes, found.consumed_bytes) == (gib(79.87), gib(81.7))
    assert found.non_torch_bytes is None
    assert (found.graph_bytes, found.graph_estimate_bytes) == (gib(0.28), gib(0.37))
    assert (found.kv_cache_tokens, found.max_concurrency) == (315_039, 1.2)
    assert (found.max_num_seqs, found.max_num_batched_tokens, found.max_model_len) == (1, 4096, 262144)
    assert found.kv_cache_bytes == gib(8.64)


@pytest.mark.parametrize(
    ("line", "failure"),
    [
        ("ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`", "NO_KV"),
        (TOO_LONG, "CONTEXT_TOO_LONG"),
        (TOO_LONG_IN_V0, "CONTEXT_TOO_LONG"),
        (NOT_FREE, "NOT_FREE"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.16 GiB.", "OUT_OF_MEMORY"),
        ("RuntimeError: NVML_SUCCESS == r INTERNAL ASSERT FAILED at CUDACachingAllocator.cpp:1131", "OUT_OF_MEMORY"),
        ("Total number of attention heads (40) must be divisible by tensor parallel size (3).", "INVALID_PARALLEL"),
    ],
)
def test_failures_are_named(line: str, failure: str) -> None:
    banner = "INFO Initializing a V1 LLM engine (v0.11.0) with config: model='m', speculative_config=None,\n"
    found = parse_start_log(f"{banner}(EngineCore pid=1) ERROR 07-11 [core.py:390] {line}\nlater: CUDA out of memory\n")
    assert found.failure is StartFailure[failure]
    assert found.failure_text is not None
    assert line[:40] in found.failure_text


def test_a_context_that_is_too_long_says_what_would_do() -> None:
    found = parse_start_log(
        "vllm ValueError: To serve at least one request with the model's max seq len (4096), (0.58 GiB KV cache is "
        "needed, which is larger than the available KV cache memory (0.47 GiB). Based on the available memory, the "
        "estimated maximum model length is 3280. Try increasing"
    )
    assert (found.needed_kv_bytes, found.kv_cache_bytes) == (gib(0.58), gib(0.47))
    assert (found.estimated_max_model_len, found.max_model_len) == (3280, 4096)


def test_the_last_of_several_starts_counts() -> None:
    failed = V1_011.split("(Worker")[0] + "ERROR CUDA out of memory. Tried to allocate 2.00 GiB\n"
    found = parse_start_log(failed + V1_011)
    assert found.failure is None
    assert found.weights_bytes == gib(74.28)
    assert parse_start_log(V1_011 + failed).failure is StartFailure.OUT_OF_MEMORY
    assert parse_start_log(V1_011 + failed).weights_bytes is None


def test_a_real_server_on_a_cpu(reference: Path) -> None:
    text = (reference / "captured" / "vllm-cpu" / "startup.log").read_text(encoding="utf-8", errors="replace")
    found = parse_start_log(text)
    assert (found.engine, found.engine_version) == (Engine.VLLM, "0.32.0")
    assert (found.kv_cache_bytes, found.kv_cache_tokens) == (GIB, 1_048_576)
    assert (found.max_concurrency, found.concurrency_context) == (1024.0, 1024)
    assert (found.dtype, found.enforce_eager, found.max_num_seqs) == ("float32", True, 8)
    assert found.weights_bytes is None


# Printed by these releases on header-only models
LLAMA_B3889 = """
llm_load_print_meta: arch             = llama
llm_load_print_meta: model ftype      = F16 (guessed)
llm_load_print_meta: model size       = 2.77 GiB (16.00 BPW)
llm_load_tensors:        CPU buffer size =  2836.08 MiB
llama_new_context_with_model: n_ctx      = 10016
llama_new_context_with_model: n_ubatch   = 512
llama_new_context_with_model: flash_attn = 0
llama_kv_cache_init:        CPU KV buffer size =    78.25 MiB
llama_new_context_with_model: KV self size  =   78.25 MiB, K (f16):   39.12 MiB, V (f16):   39.12 MiB
llama_new_context_with_model:        CPU  output buffer size =     1.96 MiB
llama_new_context_with_model:        CPU compute buffer size =   677.57 MiB
"""
LLAMA_V050 = """
print_info: file size   = 11.85 GiB (16.00 BPW)
print_info: arch                  = gemma3
load_tensors:   CPU_Mapped model buffer size = 12139.02 MiB
llama_context: n_seq_max             = 4
llama_context: n_ctx                 = 32768
llama_context: n_ctx_seq             = 8192
llama_context: n_ubatch              = 512
llama_context: flash_attn            = enabled
llama_context: kv_unified            = false
llama_context:        CPU  output buffer size =     4.00 MiB
llama_kv_cache_iswa: creating non-SWA KV cache, size = 8192 cells
llama_kv_cache:        CPU KV buffer size =   512.00 MiB
llama_kv_cache: size =  512.00 MiB (  8192 cells,   2 layers,  4/4 seqs), K (f16):  256.00 MiB, V (f16):  256.00 MiB
llama_kv_cache_iswa: creating     SWA KV cache, size = 1536 cells
llama_kv_cache:        CPU KV buffer size =   480.00 MiB
llama_kv_cache: size =  480.00 MiB (  1536 cells,  10 layers,  4/4 seqs), K (f16):  240.00 MiB, V (f16):  240.00 MiB
sched_reserve:        CPU compute buffer size =   533.00 MiB
"""
LLAMA_STATES = """
llama_memory_recurrent:        CPU RS buffer size =    24.60 MiB
llama_memory_recurrent: size =   24.60 MiB ( 3 cells, 4 layers, 3 seqs), R (f32): 0.60 MiB, S (f32): 24.00 MiB
llama_context:        CPU compute buffer size =   106.41 MiB
"""
OLLAMA_ENGINE = """
time=2025-10-22T02:17:00Z level=INFO source=routes.go:1 msg="Listening on 127.0.0.1:11434 (version 0.12.6)"
time=2025-10-22T02:17:57Z level=DEBUG source=device.go:206 msg="model weights" device=CUDA0 size="20.0 GiB"
time=2025-10-22T02:17:57Z level=DEBUG source=device.go:238 msg="total memory" size="35.0 GiB"
time=2025-10-22T02:17:58Z level=DEBUG source=ggml.go:494 msg="offloaded 30/49 layers to GPU"
time=2025-10-22T02:17:58Z level=DEBUG source=device.go:206 msg="model weights" device=CUDA0 size="18.5 GiB"
time=2025-10-22T02:17:58Z level=DEBUG source=device.go:211 msg="model weights" device=CPU size="11.7 GiB"
time=2025-10-22T02:17:58Z level=DEBUG source=device.go:217 msg="kv cache" device=CUDA0 size="1.9 GiB"
time=2025-10-22T02:17:58Z level=DEBUG source=device.go:222 msg="kv cache" device=CPU size="1.1 GiB"
time=2025-10-22T02:17:58Z level=DEBUG source=device.go:228 msg="compute graph" device=CUDA0 size="190.5 MiB"
time=2025-10-22T02:17:58Z level=DEBUG source=device.go:238 msg="total memory" size="33.5 GiB"
"""
OLLAMA_SCHEDULER = (
    'time=2024-12-01 level=INFO source=memory.go:356 msg="offload to cuda" layers.requested=-1 layers.model=33 '
    'layers.offload=33 layers.split="" memory.available="[23.3 GiB]" memory.required.full="6.5 GiB" '
    'memory.required.kv="1.0 GiB" memory.weights.total="4.9 GiB" memory.graph.full="560.0 MiB"\n'
)


def test_llama_cpp_of_2024() -> None:
    found = parse_start_log(LLAMA_B3889)
    assert (found.engine, found.architecture) == (Engine.LLAMA_CPP, "llama")
    assert found.kv_cache_bytes == round(78.25 * MIB)
    assert (found.n_ctx, found.n_ubatch, found.flash_attention) == (10016, 512, False)
    assert found.weights_by_device == {"CPU": round(2836.08 * MIB)}
    assert found.compute_by_device == {"CPU": round(677.57 * MIB)}
    assert (found.kv_cache_dtype, found.kv_unified, found.n_parallel) == ("f16", None, None)


def test_both_caches_of_a_sliding_model_add_up() -> None:
    found = parse_start_log(LLAMA_V050)
    assert found.kv_cache_bytes == 992 * MIB
    assert (found.n_ctx, found.n_parallel, found.kv_unified, found.flash_attention) == (32768, 4, False, True)
    assert found.activation_bytes == 533 * MIB


def test_states_are_told_apart_and_counted() -> None:
    found = parse_start_log(LLAMA_STATES)
    assert found.state_by_device == {"CPU": round(24.6 * MIB)}
    assert found.kv_cache_bytes == round(24.6 * MIB)


def test_ollamas_last_round_counts() -> None:
    found = parse_start_log(OLLAMA_ENGINE)
    assert (found.engine, found.engine_version) == (Engine.OLLAMA, "0.12.6")
    assert found.weights_by_device == {"CUDA0": gib(18.5), "CPU": gib(11.7)}
    assert found.kv_cache_bytes == gib(1.9) + gib(1.1)
    assert (found.layers_offloaded, found.layers_total) == (30, 49)
    assert not found.is_scheduler_estimate


def test_what_ollamas_scheduler_reckons_is_no_allocation() -> None:
    found = parse_start_log(OLLAMA_SCHEDULER)
    assert found.is_scheduler_estimate
    assert (found.weights_bytes, found.kv_cache_bytes) == (gib(4.9), GIB)
    assert not parse_start_log(OLLAMA_SCHEDULER + OLLAMA_ENGINE).is_scheduler_estimate


def test_llama_cpp_out_of_memory() -> None:
    found = parse_start_log(
        "0.00.100.000 E ggml_backend_cuda_buffer_type_alloc_buffer: allocating 590.07 MiB on device 0: "
        "cudaMalloc failed: out of memory\nllama_model_load: error loading model: unable to allocate CUDA0 buffer\n"
    )
    assert found.failure is StartFailure.OUT_OF_MEMORY
    assert found.has_memory


@pytest.mark.parametrize("text", ["", "\x00" * 500, "a web server started", "GPU KV cache size: -5 tokens vllm"])
def test_other_text_measures_nothing(text: str) -> None:
    found = parse_start_log(text)
    assert not found.has_memory
    assert found.weights_bytes is None


def test_absurd_numbers_are_not_taken() -> None:
    found = parse_start_log(
        "vLLM Model loading took 99999999999 GiB\nvllm Available KV cache memory: nan GiB\n"
        "GPU KV cache size: 9,999,999,999,999,999,999 tokens\n"
    )
    assert (found.weights_bytes, found.kv_cache_bytes, found.kv_cache_tokens) == (None, None, None)


def test_colours_and_prefixes_do_not_matter() -> None:
    plain = parse_start_log(V1_EARLY)
    coloured = "\n".join(f"pod-7 2026-01-01T00:00:00Z \x1b[1;36m{line}\x1b[0m\r" for line in V1_EARLY.splitlines())
    assert parse_start_log(coloured) == plain


ALL = (V0, V1_EARLY, V1_011, V1_LATE, LLAMA_B3889, LLAMA_V050, LLAMA_STATES, OLLAMA_ENGINE, OLLAMA_SCHEDULER)


@given(st.sampled_from(ALL), st.integers(0, 4000), st.text(max_size=60))
def test_a_cut_log_says_less_but_never_more(text: str, cut: int, tail: str) -> None:
    found = parse_start_log(text[:cut] + "\n" + tail)
    assert isinstance(found, Measured)
    whole = parse_start_log(text)
    summed = {"weights_bytes"} if text in (OLLAMA_ENGINE, V1_EARLY) else set()  # later devices and ranks add to it
    for field in {"weights_bytes", "gpu_blocks", "graph_bytes", "n_ctx"} - summed:
        if not any(letter.isdigit() for letter in text[max(0, cut - 12) : cut] + tail):
            said, in_all = getattr(found, field), getattr(whole, field)
            # V0 prints the weights twice, first to a hundredth of a GiB: a cut between the two leaves the coarser one
            assert said is None or said == in_all or abs(said - in_all) <= 0.01 * 2**30


@given(st.lists(st.sampled_from("\n".join(ALL).split()), max_size=200), st.sampled_from([" ", "\n", ""]))
def test_shuffled_words_never_fail(words: list[str], between: str) -> None:
    found = parse_start_log(between.join(words))
    for field in fields(found):
        value = getattr(found, field.name)
        if field.name.endswith("_bytes") and value is not None:
            assert isinstance(value, int)


@pytest.mark.parametrize(
    "line",
    [
        "1 1.1 11 " * 1700 + " memory",
        "model weights take " + " " * 15000,
        "non-default args: " + "'model': " * 1500,
        "load_tensors: " + " " * 8000 + "A" * 7000 + " buffer size = ",
        'msg="gpu memory" ' * 900 + " size",
        "1" * (MAX_LINE - 10) + " memory",
    ],
)
def test_hostile_lines_cost_little(line: str) -> None:
    for mark in ("vLLM memory", "llama_ buffer ollama"):
        started = time.perf_counter()
        parse_start_log(mark + "\n" + (line + "\n") * (MAX_CHARS // 32 // len(line)))
        assert time.perf_counter() - started < 10


SERVED = "INFO 09-03 03:40:00 [loggers.py:127] Engine 000: Avg generation throughput: 3.4 tokens/s, Running: 1 reqs\n"


def test_the_last_start_counts_wherever_it_stands() -> None:
    between = SERVED * (MAX_CHARS // len(SERVED) + 1)
    found = parse_start_log(V1_011 + between + V1_LATE + between)
    assert found == parse_start_log(V1_LATE)
    after_lines = "\n" * 500_000  # a log of many short lines
    assert parse_start_log(V0 + after_lines + V1_LATE) == parse_start_log(V1_LATE)


def test_a_start_that_failed_counts_too_and_one_that_said_nothing_ends_nothing() -> None:
    failed = V1_LATE.split("Estimated CUDA")[0] + "\n" + TOO_LONG + "\n"
    assert parse_start_log(V1_011 + SERVED * 90_000 + failed).failure is StartFailure.CONTEXT_TOO_LONG
    banners = V1_LATE.splitlines()[2]
    assert parse_start_log(banners + "\n" + banners + V1_LATE).kv_cache_tokens == 315_039


def test_what_the_server_prints_before_its_engine_belongs_to_the_same_start() -> None:
    served = V1_LATE.replace(
        "non-default args", "vLLM API server version 0.29.0\n(APIServer pid=9) INFO non-default args"
    )
    found = parse_start_log(V1_011 + served)
    assert (found.max_num_seqs, found.max_num_batched_tokens) == (1, 4096)


def test_the_build_of_llama_cpp_is_that_of_the_server_that_loads_models_later() -> None:
    load = "llama_model_loader: loaded meta data with 30 key-value pairs\n" + LLAMA_V050
    text = "build: 6845 (1a2b3c4d) with cc\n" + load + "slot released\n" * 700_000 + load
    assert parse_start_log(text).engine_version == "6845"
    assert parse_start_log(text).kv_cache_bytes == parse_start_log(LLAMA_V050).kv_cache_bytes


def test_another_program_that_names_vllm_and_runs_out_of_memory_is_no_start() -> None:
    assert not parse_start_log("train.py: imported vllm\ntorch.OutOfMemoryError: CUDA out of memory.\n").has_memory
    real = "INFO [core.py:77] Initializing a V1 LLM engine (v0.11.0)\ntorch.OutOfMemoryError: CUDA out of memory.\n"
    assert parse_start_log(real).failure is StartFailure.OUT_OF_MEMORY
