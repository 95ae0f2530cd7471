"""The run that a start-up log describes, so that it can be predicted with its own settings and compared."""

from dataclasses import replace

from planner.memory.estimate import Basis, Engine, Run
from planner.memory.measured import Measured


def run_as_measured(run: Run, measured: Measured) -> Run:
    """`run` (its model and device) with every setting that the log printed; what it did not print stays as it is.

    The device's memory is the one that the engine saw. llama.cpp's context is that of all sequences, as it prints it;
    Ollama's log gives the same total, of which one request has its share.
    """
    engine = measured.engine or run.engine
    context = measured.n_ctx
    if engine is Engine.OLLAMA and context is not None:
        context //= measured.n_parallel or 1
    device = run.device
    if measured.device_bytes is not None:
        device = replace(
            device,
            memory_bytes=measured.device_bytes,
            basis=Basis.MEASURED,
            source="the memory that the engine saw, from its start-up log",
        )
    gpu_layers = run.gpu_layers
    if measured.layers_offloaded is not None and measured.layers_offloaded != measured.layers_total:
        gpu_layers = measured.layers_offloaded
    return replace(
        run,
        device=device,
        engine=engine,
        engine_version=measured.engine_version or run.engine_version,
        tensor_parallel=measured.tensor_parallel or run.tensor_parallel,
        dtype=measured.dtype or run.dtype if engine is Engine.VLLM else run.dtype,
        quantization=run.quantization or (measured.quantization if engine is not Engine.VLLM else None),
        kv_cache_dtype=measured.kv_cache_dtype or run.kv_cache_dtype,
        max_model_len=measured.max_model_len or measured.concurrency_context or run.max_model_len,
        max_num_seqs=measured.max_num_seqs or run.max_num_seqs,
        max_num_batched_tokens=measured.max_num_batched_tokens or run.max_num_batched_tokens,
        gpu_memory_utilization=measured.gpu_memory_utilization or run.gpu_memory_utilization,
        block_size=measured.block_size or run.block_size,
        enforce_eager=run.enforce_eager if measured.enforce_eager is None else measured.enforce_eager,
        n_ctx=context or run.n_ctx,
        n_parallel=measured.n_parallel or run.n_parallel,
        n_ubatch=measured.n_ubatch or run.n_ubatch,
        flash_attention=run.flash_attention if measured.flash_attention is None else measured.flash_attention,
        kv_unified=run.kv_unified if measured.kv_unified is None else measured.kv_unified,
        gpu_layers=gpu_layers,
    )
