"""How a checkpoint says that it is quantised: `quantization_config`, or ModelOpt's `hf_quant_config.json`.

Field names as in Hugging Face transformers 5.23.0 (utils/quantization_config.py), compressed-tensors 0.12
(quantization/quant_scheme.py, config/base.py) and NVIDIA ModelOpt 0.37 (torch/export).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from planner.memory.facts import Quantisation, WeightFormat
from planner.memory.kept_modules import Modules, kept_shares

LOADED_AS: Mapping[str, WeightFormat] = {
    "awq": WeightFormat.AWQ,
    "gptq": WeightFormat.GPTQ,
    "gptq_marlin": WeightFormat.GPTQ,
    "auto-round": WeightFormat.GPTQ,
    "auto_round": WeightFormat.GPTQ,
    "inc": WeightFormat.GPTQ,
    "fbgemm_fp8": WeightFormat.FP8,
    "ptpc_fp8": WeightFormat.FP8,
    "mxfp4": WeightFormat.MXFP4,
    "gguf": WeightFormat.GGUF,
    "int8": WeightFormat.INT8,
    "eetq": WeightFormat.INT8,
}
WORDS: tuple[tuple[str, WeightFormat, float], ...] = (
    ("mxfp4", WeightFormat.MXFP4, 4),
    ("nvfp4", WeightFormat.NVFP4, 4),
    ("float8", WeightFormat.FP8, 8),
    ("fp8", WeightFormat.FP8, 8),
    ("int8", WeightFormat.INT8, 8),
    ("int4", WeightFormat.GPTQ, 4),
    ("fp4", WeightFormat.MXFP4, 4),
)
"""How torchao (`quant_type`), quark (`dtype` of weights) and quanto (`weights`) name a type; the first that fits."""
ALGORITHMS: Mapping[str, WeightFormat] = {
    "FP8": WeightFormat.FP8,
    "FP8_PER_CHANNEL_PER_TOKEN": WeightFormat.FP8,
    "FP8_PB_WO": WeightFormat.FP8_BLOCK,
    "MXFP8": WeightFormat.FP8_BLOCK,
    "NVFP4": WeightFormat.NVFP4,
    "NVFP4_AWQ": WeightFormat.NVFP4,
    "W4A8_NVFP4_FP8": WeightFormat.NVFP4,
    "W4A16_AWQ": WeightFormat.AWQ,
    "W4A8_AWQ": WeightFormat.AWQ,
    "INT4_AWQ": WeightFormat.AWQ,
    "W8A8_SQ_PER_CHANNEL": WeightFormat.INT8,
    "W4A8_MXFP4_FP8": WeightFormat.MXFP4,
    "MXFP4": WeightFormat.MXFP4,
}
"""ModelOpt's `quant_algo`."""
BITS: Mapping[WeightFormat, float] = {
    WeightFormat.FP8: 8,
    WeightFormat.FP8_BLOCK: 8,
    WeightFormat.INT8: 8,
    WeightFormat.AWQ: 4,
    WeightFormat.GPTQ: 4,
    WeightFormat.NF4: 4,
    WeightFormat.MXFP4: 4,
    WeightFormat.NVFP4: 4,
}
GROUPS: Mapping[WeightFormat, int] = {WeightFormat.MXFP4: 32, WeightFormat.NVFP4: 16, WeightFormat.NF4: 64}


def read_quantisation(config: Mapping[str, Any], layers: Sequence[Modules], assumed: list[str]) -> Quantisation | None:
    """What the configuration says, None where it is not quantised; what it leaves open is added to `assumed`.

    `layers` holds the modules of each layer, for the shares that its list of exceptions keeps.
    """
    stated = config.get("quantization_config") or config.get("compression_config")
    beside = config.get("hf_quant_config")
    if isinstance(beside, Mapping) and isinstance(beside.get("quantization"), Mapping):
        beside = beside["quantization"]
    if not isinstance(stated, Mapping):
        stated = None
    if not isinstance(beside, Mapping):
        beside = None
    if stated is None and beside is None:
        return None
    table = {**(stated or {}), **(beside or {})}
    method = str(table.get("quant_method") or "").strip().lower()
    known = True
    if "quant_algo" in table or method.startswith("modelopt"):
        read = _modelopt(table, assumed)
    elif method == "compressed-tensors" or "config_groups" in table:
        read = _compressed_tensors(table, assumed)
    else:
        read = _plain(method, table)
        if read is _UNKNOWN:
            known = False
            read = WeightFormat.INT8, _number(table.get("bits")) or 8, None, None
            assumed.append(
                f"The quantisation method {method[:40] or 'without a name'} is not known here; {read[1]:g} bits for "
                "each weight of the large matrices were assumed, and up to 16 are possible."
            )
    if read is None:
        return None
    form, bits, group, experts = read
    if str(config.get("expert_dtype") or "").lower() in ("fp4", "mxfp4", "float4"):
        experts = WeightFormat.MXFP4 if experts is None else experts
    kept = _kept(table)
    return Quantisation(
        format=form,
        bits=bits if bits is not None else BITS.get(form),
        group_size=group if group is not None else GROUPS.get(form),
        kept=kept,
        kv_cache_format=_cache_format(table),
        expert_format=None if experts is form else experts,
        is_known=known,
        kept_shares=kept_shares(kept, layers, assumed),
    )


Read = tuple[WeightFormat, float | None, int | None, WeightFormat | None]
_UNKNOWN: Read = WeightFormat.INT8, None, None, WeightFormat.INT8


def _plain(method: str, table: Mapping[str, Any]) -> Read | None:
    """`_UNKNOWN` itself where the method is not known."""
    bits, group = (
        _number(table.get("bits") or table.get("w_bit")),
        _whole(table.get("group_size") or table.get("q_group_size")),
    )
    if method == "fp8":
        block = table.get("weight_block_size")
        size = _whole(block[0]) if isinstance(block, Sequence) and block else None
        return (WeightFormat.FP8_BLOCK if size else WeightFormat.FP8), 8, size, None
    if method in ("bitsandbytes", "bnb") or "load_in_4bit" in table or "load_in_8bit" in table:
        if table.get("load_in_8bit"):
            return WeightFormat.INT8, 8, None, None
        if table.get("load_in_4bit") is False and table.get("load_in_8bit") is False:
            return None
        return WeightFormat.NF4, 4, 64, None
    if method in ("torchao", "quark", "quanto"):
        return _by_word(method, table)
    if method == "hqq":
        return _hqq(table)
    form = LOADED_AS.get(method)
    if form is None:
        return _UNKNOWN
    return form, bits, group if group and group > 0 else None, None


def _by_word(method: str, table: Mapping[str, Any]) -> Read:
    """torchao, AMD's quark and quanto say the type of the weights in a word; where it stands differs."""
    stated: object = table.get("weights") if method == "quanto" else table.get("quant_type")
    if method == "quark":
        overall = table.get("global_quant_config")
        stated = overall.get("weight") if isinstance(overall, Mapping) else None
        if isinstance(stated, Mapping):
            stated = stated.get("dtype")
    if isinstance(stated, Mapping):
        stated = [str(one.get("_type") if isinstance(one, Mapping) else one) for one in stated.values()]
    word = "".join(letter for letter in str(stated).lower() if letter.isalnum())
    for part, form, bits in WORDS:
        if part in word:
            return form, bits, None, None
    return _UNKNOWN


def _hqq(table: Mapping[str, Any]) -> Read:
    inner = table.get("quant_config")
    weights = inner.get("weight_quant_params") if isinstance(inner, Mapping) else None
    bits = _number(weights.get("nbits")) if isinstance(weights, Mapping) else None
    if bits is None or not isinstance(weights, Mapping):
        return _UNKNOWN
    return (WeightFormat.INT8 if bits >= 8 else WeightFormat.GPTQ), bits, _whole(weights.get("group_size")), None


def _modelopt(table: Mapping[str, Any], assumed: list[str]) -> Read | None:
    algorithm = str(table.get("quant_algo") or "").upper()
    group = _whole(table.get("group_size"))
    if algorithm == "MIXED_PRECISION":
        return _mixed(table, assumed)
    if algorithm in ("", "NONE"):
        return None
    form = ALGORITHMS.get(algorithm)
    if form is None:
        form = WeightFormat.NVFP4 if "FP4" in algorithm else WeightFormat.FP8 if "8" in algorithm else WeightFormat.AWQ
        assumed.append(f"The quantisation {algorithm} is not known here; it was taken for {form.value}.")
    return form, None, group, None


def _mixed(table: Mapping[str, Any], assumed: list[str]) -> Read | None:
    """ModelOpt lists every quantised layer with its own algorithm; the commonest of experts and of the rest count."""
    listed = table.get("quantized_layers")
    experts: Counter[WeightFormat] = Counter()
    rest: Counter[WeightFormat] = Counter()
    for name, entry in listed.items() if isinstance(listed, Mapping) else ():
        form = ALGORITHMS.get(str(entry.get("quant_algo") if isinstance(entry, Mapping) else entry).upper())
        if form is not None:
            routed = "experts" in str(name) and "shared" not in str(name)
            (experts if routed else rest)[form] += 1
    if not experts and not rest:
        assumed.append(
            "The list of mixed precisions is not in this file; NVFP4 experts and FP8 elsewhere were assumed."
        )
        return WeightFormat.FP8, None, None, WeightFormat.NVFP4
    main = (rest or experts).most_common(1)[0][0]
    return main, None, None, experts.most_common(1)[0][0] if experts else None


def _compressed_tensors(table: Mapping[str, Any], assumed: list[str]) -> Read | None:
    groups = table.get("config_groups")
    found: list[tuple[WeightFormat, int | None, int | None, bool]] = []
    for entry in groups.values() if isinstance(groups, Mapping) else ():
        if not isinstance(entry, Mapping) or not isinstance(weights := entry.get("weights"), Mapping):
            continue
        bits, size = _whole(weights.get("num_bits")) or 8, _whole(weights.get("group_size"))
        style = str(entry.get("format") or table.get("format") or "")
        targets = " ".join(map(str, entry.get("targets") or ()))
        found.append((_scheme(bits, str(weights.get("type")), size, style, weights), bits, size, "expert" in targets))
    if not found:
        assumed.append("The quantisation groups of compressed-tensors are not in this file; FP8 was assumed.")
        return WeightFormat.FP8, None, None, None
    main = next((entry for entry in found if not entry[3]), found[0])
    experts = next((entry[0] for entry in found if entry[3]), None)
    block = table_block(groups)
    return main[0], main[1], main[2] or block, experts


def table_block(groups: object) -> int | None:
    """The side of the blocks that share a scale, where the first group states one."""
    for entry in groups.values() if isinstance(groups, Mapping) else ():
        weights = entry.get("weights") if isinstance(entry, Mapping) else None
        block = weights.get("block_structure") if isinstance(weights, Mapping) else None
        if isinstance(block, Sequence) and not isinstance(block, str) and block:
            return _whole(block[0])
    return None


def _scheme(bits: int, kind: str, group: int | None, style: str, weights: Mapping[str, Any]) -> WeightFormat:
    if "mxfp4" in style:
        return WeightFormat.MXFP4
    if "nvfp4" in style:
        return WeightFormat.NVFP4
    if kind == "float":
        if bits <= 4:
            return WeightFormat.MXFP4 if group == 32 else WeightFormat.NVFP4
        return WeightFormat.FP8_BLOCK if weights.get("strategy") == "block" or group else WeightFormat.FP8
    return WeightFormat.INT8 if bits >= 8 else WeightFormat.GPTQ


def _cache_format(table: Mapping[str, Any]) -> str | None:
    for field in ("kv_cache_quant_algo", "kv_cache_scheme", "kv_cache_quant_method"):
        value = table.get(field)
        if isinstance(value, Mapping):
            return "fp8" if value.get("num_bits", 8) == 8 else str(value.get("type"))
        if isinstance(value, str) and value.lower() not in ("", "none", "auto"):
            return "fp8" if "8" in value else value.lower()
    return None


def _kept(table: Mapping[str, Any]) -> tuple[str, ...]:
    names: list[str] = []
    fields = (
        "modules_to_not_convert",
        "ignore",
        "exclude_modules",
        "llm_int8_skip_modules",
        "modules_to_skip",
        "ignored_layers",
    )
    for field in fields:
        value = table.get(field)
        if isinstance(value, Mapping):  # a shortened list
            value = value.get("sample")
        if isinstance(value, Sequence) and not isinstance(value, str):
            names += [entry for entry in value if isinstance(entry, str)]
    return tuple(dict.fromkeys(names))


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 32 else None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**20 else None
