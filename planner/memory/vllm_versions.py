"""What changes between versions of vLLM as far as memory goes.

Sources are vLLM's own files at the version named: `vllm/engine/arg_utils.py` (defaults), `vllm/v1/worker/gpu_worker.py`
(what is charged to the budget), `vllm/v1/core/kv_cache_utils.py` (blocks and what is printed), its release notes and
pull requests. The token and element counts measured against them are those of benchmarks/MEMORY.md.
"""

import re
from dataclasses import dataclass

from planner.errors import PlannerError
from planner.memory.vllm_fitted import FLASHINFER_LOGIT, NEWEST_LOGIT

# The newest version that recorded runs reach; a run that states no version is taken to be this one.
NEWEST = (0, 31, 0)


class ContradictoryRun(PlannerError):
    """The settings of a run exclude each other or name something that does not exist."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmVersion:
    """One version, and whether its old (V0) or its new (V1) engine runs: from 0.8 to 0.10 both existed."""

    number: tuple[int, int, int]
    is_v0: bool
    stated: bool = True

    @property
    def text(self) -> str:
        """As people write it."""
        return ".".join(str(part) for part in self.number)

    @property
    def band(self) -> str:
        """The versions that behave alike, for tables."""
        if self.is_v0:
            return "V0"
        if self.number < (0, 17):
            return "V1 to 0.16"
        if self.number < (0, 19):
            return "0.17-0.18"
        if self.number < (0, 21):
            return "0.19-0.20"
        return "0.21" if self.number < (0, 22) else "0.22 and later"

    @property
    def sampler_bytes(self) -> float:
        """Bytes held per logit (sequence x vocabulary entry) at the peak of a sampling step.

        V0, and V1 from 0.10.2 to 0.16, call `torch.sort`: logits 2 + float32 copy 4 + sorted values 4 + indices 8 + the
        sort's own double buffers 20 = 38. V1 before 0.10.2 takes FlashInfer where it is installed, as it is in the
        published images: 2 + 4 + probabilities 4 and scratch, 10.75 measured. From 0.17 a Triton kernel filters in
        place: 2 + 4 + probabilities 4 + exponential noise 4 = 14. From 0.28 the float32 copy and the noise go (pull
        request 48641, second model runner); 9.2 is what one recorded run shows, no count of buffers explains it.
        """
        if self.is_v0 or (0, 10, 2) <= self.number < (0, 17):
            return 38.0
        if self.number < (0, 10, 2):
            return FLASHINFER_LOGIT
        return 14.0 if self.number < (0, 28) else NEWEST_LOGIT

    @property
    def sampler_bytes_range(self) -> tuple[float, float]:
        """Any where no version is given; FlashInfer's or the sort's before 0.17; the newest is known from one run."""
        if self.is_v0:
            return (38.0, 38.0)
        if not self.stated:
            return (6.0, 38.0)
        if self.number < (0, 17):
            return (FLASHINFER_LOGIT, 38.0)
        return (14.0, 14.0) if self.number < (0, 28) else (6.0, 14.0)

    @property
    def filters_by_triton(self) -> bool:
        """The Triton filter keeps one float32 row of the vocabulary per multiprocessor."""
        return not self.is_v0 and (0, 17) <= self.number < (0, 28)

    @property
    def hidden_copies(self) -> int:
        """Copies of the hidden state alive at the peak of a forward pass: one more under compilation than in V0."""
        return 3 if self.is_v0 else 4

    @property
    def keeps_expert_workspace(self) -> bool:
        """From 0.13 the fused-expert workspaces stay allocated through sampling (`v1/worker/workspace.py`)."""
        return not self.is_v0 and self.number >= (0, 13)

    @property
    def charges_graphs(self) -> bool:
        """Pull request 38284: from 0.21 an estimate of the CUDA graphs is taken from the budget."""
        return not self.is_v0 and self.number >= (0, 21)

    @property
    def default_utilization(self) -> float:
        """Share of the device that a run may use where none is given."""
        return 0.92 if self.number >= (0, 22) else 0.9

    @property
    def groups_layers(self) -> bool:
        """The manager that keeps only the window of sliding layers is on by default from 0.10."""
        return not self.is_v0 and self.number >= (0, 10)

    @property
    def rounds_requests_to_blocks(self) -> bool:
        """V1 divides whole blocks by whole blocks, V0 tokens by tokens."""
        return not self.is_v0

    @property
    def prints_concurrency_times_length(self) -> bool:
        """Issue 40691: from 0.21 the printed token count is concurrency x length, before blocks / groups x block."""
        return not self.is_v0 and self.number >= (0, 21)

    @property
    def state_blocks(self) -> int:
        """Blocks that each group of state-space layers holds per request: prefix caching (0.21) keeps the last two."""
        return 2 if self.number >= (0, 21) else 1

    @property
    def has_latent_cache(self) -> bool:
        """From 0.7.1 multi-head latent attention caches the latent; before it cached expanded heads."""
        return self.number >= (0, 7, 1)


def parse_version(text: str | None) -> VllmVersion:
    """Read `0.10.1.1`, `v0.8.5 (V0)`, `V0`, `V1`; raise ContradictoryRun for anything else."""
    if text is None:
        return VllmVersion(number=NEWEST, is_v0=False, stated=False)
    engine = re.search(r"\bv([01])\b(?!\.)", text, re.IGNORECASE)
    found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    if not found and not engine:
        raise ContradictoryRun(
            f'"{text}" is not a version of vLLM. Give it as 0.19.0, or as V0 or V1 where only the engine is known.'
        )
    if not found:
        v0 = engine is not None and engine.group(1) == "0"
        return VllmVersion(number=(0, 6, 6) if v0 else NEWEST, is_v0=v0, stated=False)
    number = (int(found.group(1)), int(found.group(2)), int(found.group(3) or 0))
    v0 = engine.group(1) == "0" if engine and number < (0, 11) else number < (0, 8)
    return VllmVersion(number=number, is_v0=v0)
