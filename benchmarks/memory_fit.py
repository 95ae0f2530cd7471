"""Fits the constants of planner/memory/vllm_fitted.py on the runs of some families and shows them beside those in use.

`python -m benchmarks.memory_fit` prints the table; it changes nothing. A constant is taken into use by hand, so that
its reason can be weighed. The families that are not in FITTED_FAMILIES are held out: no constant was chosen by them.
"""

import argparse
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.memory_rows import RecordedRun, recorded_runs
from benchmarks.results import table
from planner.memory import vllm_fitted as fitted
from planner.memory.estimate import Run
from planner.memory.facts import WeightFormat
from planner.memory.vllm_activation import activation_of
from planner.memory.vllm_formats import stored_format
from planner.memory.vllm_overheads import captured_sizes, has_nvlink
from planner.memory.vllm_padding import padded_vocabulary
from planner.memory.vllm_settings import Settings, settings_of
from planner.memory.vllm_weights import bytes_per_parameter, weights_of
from planner.units import GIB

FITTED_FAMILIES = frozenset({"llama3", "qwen2", "gpt-oss", "qwen3.5/3.6 hybrid"})
# A run of a held-out family that one constant was taken from after all: the encoder of Qwen3-VL.
FITTED_ROWS = frozenset({"vllm-071"})
REFERENCE = Path(__file__).resolve().parents[2] / "shared" / "reference"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """One constant: what is in use, and what each part of the runs says."""

    name: str
    used: float
    on_fitted: float | None
    rows: int
    on_held_out: float | None


def is_fitted(recorded: RecordedRun) -> bool:
    """Whether a run belongs to the part that constants are fitted on."""
    return recorded.row["family"] in FITTED_FAMILIES or recorded.key in FITTED_ROWS


def fits(runs: Sequence[RecordedRun]) -> list[Fit]:
    """Every constant that runs can tell."""
    found = [
        _fit("SMALL_BUFFERS (MB)", fitted.SMALL_BUFFERS / 1e6, runs, _small_buffers),
        _fit("FLASHINFER_LOGIT", fitted.FLASHINFER_LOGIT, runs, _flashinfer_logit),
        _fit("NEWEST_LOGIT", fitted.NEWEST_LOGIT, runs, _newest_logit),
        _fit("HOPPER_MXFP4_GROWTH", fitted.HOPPER_MXFP4_GROWTH, runs, _mxfp4_growth),
    ]
    for name, used, applies in _NON_TORCH:
        found.append(_fit(f"{name} (GiB)", used[0], runs, _non_torch(applies)))
    for name, pair, charged in (
        ("GRAPHS_BESIDE", fitted.GRAPHS_BESIDE, False),
        ("GRAPHS_CHARGED", fitted.GRAPHS_CHARGED, True),
    ):
        whole = pair[0] + 51 * pair[1]
        found.append(_fit(f"{name}, 51 sizes (GiB)", whole, runs, _graphs(charged)))
    return found


def _fit(name: str, used: float, runs: Sequence[RecordedRun], value: Callable[[RecordedRun, Run], float | None]) -> Fit:
    found: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for recorded in runs:
        if recorded.run is None:
            continue
        one = value(recorded, recorded.run)
        if one is not None:
            found[is_fitted(recorded)].append((one, recorded.weight))
    return Fit(
        name=name,
        used=used,
        on_fitted=weighted_median(found[True]),
        rows=len(found[True]),
        on_held_out=weighted_median(found[False]),
    )


def weighted_median(values: Iterable[tuple[float, float]]) -> float | None:
    """The value that half of the weight does not exceed: a run of another kind moves it little."""
    ordered = sorted(values)
    half = sum(weight for _, weight in ordered) / 2
    passed = 0.0
    for value, weight in ordered:
        passed += weight
        if passed >= half:
            return value
    return None


def _small_buffers(recorded: RecordedRun, run: Run) -> float | None:
    """Measured peak less every counted buffer, where sampling decides and the version's sampler is known."""
    measured = recorded.row["activation_peak_gib"]
    settings = settings_of(run)
    if measured is None or not settings.version.stated or run.model.parameters.tower or run.pipeline_parallel > 1:
        return None
    activation = activation_of(run, settings)
    low, high = settings.version.sampler_bytes_range
    if activation.decided_by != "sampling" or (low != high and settings.version.number < (0, 10, 2)):
        return None
    if settings.version.number >= (0, 28):
        return None
    return float((measured * GIB - activation.total + fitted.SMALL_BUFFERS) / 1e6)


def _overhead(recorded: RecordedRun, run: Run, settings: Settings) -> float | None:
    """Peak activation as the pool implies it, non-torch taken off as the model has it."""
    row = recorded.row
    if row["kv_cache_gib"] is None or row["weights_gib"] is None or not recorded.device_known:
        return None
    budget = run.device.memory_bytes / GIB * settings.utilization
    non_torch = fitted.NON_TORCH_V1_RANKS[0] if run.tensor_parallel > 1 else fitted.NON_TORCH_V1[0]
    return float(budget - row["weights_gib"] - row["kv_cache_gib"] - non_torch)


def _flashinfer_logit(recorded: RecordedRun, run: Run) -> float | None:
    settings = settings_of(run)
    version = settings.version
    if not version.stated or version.is_v0 or version.number >= (0, 10, 2) or recorded.row.get("mig_profile"):
        return None
    overhead = _overhead(recorded, run, settings)
    return None if overhead is None else _per_logit(overhead, run, settings)


def _newest_logit(recorded: RecordedRun, run: Run) -> float | None:
    settings = settings_of(run)
    measured = recorded.row["activation_peak_gib"]
    other = run.device.architecture == "other" or not settings.version.stated
    if measured is None or other or settings.version.number < (0, 28) or settings.max_num_seqs < 1024:
        return None
    if activation_of(run, settings).decided_by != "sampling":
        return None
    return _per_logit(measured - (recorded.row["graph_gib"] or 0), run, settings)


def _per_logit(activation_gib: float, run: Run, settings: Settings) -> float:
    rest = activation_of(run, settings).total
    logits = settings.max_num_seqs * padded_vocabulary(run.model)
    return settings.version.sampler_bytes + (activation_gib * GIB - rest) / logits


def _mxfp4_growth(recorded: RecordedRun, run: Run) -> float | None:
    """Growth that makes the logged weights come out."""
    logged = recorded.row["weights_gib"]
    if logged is None or stored_format(run) is not WeightFormat.MXFP4 or run.device.architecture != "Hopper":
        return None
    experts = run.model.parameters.experts * bytes_per_parameter(WeightFormat.MXFP4) / run.tensor_parallel
    return float(fitted.HOPPER_MXFP4_GROWTH + (logged * GIB - weights_of(run, settings_of(run)).total) / experts)


def _non_torch(applies: Callable[[Run, Settings], bool]) -> Callable[[RecordedRun, Run], float | None]:
    def value(recorded: RecordedRun, run: Run) -> float | None:
        measured = recorded.row["non_torch_gib"]
        return float(measured) if measured is not None and applies(run, settings_of(run)) else None

    return value


def _graphs(charged: bool) -> Callable[[RecordedRun, Run], float | None]:
    def value(recorded: RecordedRun, run: Run) -> float | None:
        measured = recorded.row["graph_gib"]
        settings = settings_of(run)
        stated = settings.version.stated and settings.version.charges_graphs is charged
        if measured is None or measured <= 0 or not stated:
            return None
        base, each = fitted.GRAPHS_CHARGED if charged else fitted.GRAPHS_BESIDE
        sizes = captured_sizes(settings)
        return float(measured * (base + 51 * each) / (base + sizes * each))

    return value


def _alone(run: Run) -> bool:
    return run.tensor_parallel == 1 and run.pipeline_parallel == 1


_NON_TORCH: Sequence[tuple[str, tuple[float, float, float], Callable[[Run, Settings], bool]]] = (
    (
        "NON_TORCH_TURING",
        fitted.NON_TORCH_TURING,
        lambda run, settings: settings.version.is_v0 and run.device.architecture == "Turing",
    ),
    (
        "NON_TORCH_V0",
        fitted.NON_TORCH_V0,
        lambda run, settings: settings.version.is_v0 and _alone(run) and run.device.architecture != "Turing",
    ),
    (
        "NON_TORCH_V0_RANKS",
        fitted.NON_TORCH_V0_RANKS,
        lambda run, settings: settings.version.is_v0 and run.tensor_parallel > 1,
    ),
    (
        "NON_TORCH_V1",
        fitted.NON_TORCH_V1,
        lambda run, settings: (
            not settings.version.is_v0 and settings.version.stated and settings.version.number < (0, 18) and _alone(run)
        ),
    ),
    (
        "NON_TORCH_018",
        fitted.NON_TORCH_018,
        lambda run, settings: settings.version.stated and settings.version.number >= (0, 18) and _alone(run),
    ),
    (
        "NON_TORCH_019_NVLINK",
        fitted.NON_TORCH_019_NVLINK,
        lambda run, settings: (
            settings.version.stated
            and settings.version.number >= (0, 19)
            and run.tensor_parallel > 1
            and has_nvlink(run.device)
        ),
    ),
)


def fit_table(runs: Sequence[RecordedRun]) -> str:
    """The constants as a Markdown table."""
    rows = []
    for fit in fits(runs):
        cells = [_number(value) for value in (fit.used, fit.on_fitted, fit.on_held_out)]
        rows.append([fit.name, cells[0], cells[1], str(fit.rows), cells[2]])
    return table(["constant", "used", "on fitted runs", "fitted runs", "on held-out runs"], rows)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reference", type=Path, default=REFERENCE)
    print(fit_table(recorded_runs(parser.parse_args().reference)))


if __name__ == "__main__":
    main()
