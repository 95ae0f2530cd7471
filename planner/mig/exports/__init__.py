"""Plans in the forms that other tools apply: each export is a set of files, by name.

Names from clusters are hostile: in comments they are made printable, in commands they are quoted, and a node whose
name Kubernetes cannot know gets no command.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum

import planner.mig.exports.gpu_operator as gpu_operator
import planner.mig.exports.layouts_json as layouts_json
import planner.mig.exports.mig_parted as mig_parted
import planner.mig.exports.nvidia_smi as nvidia_smi
from planner.mig.plan import ChangePlan
from planner.mig.problem import Problem

Files = Mapping[str, str]
"""Name of each file to its text."""


class Format(StrEnum):
    """What a plan can be exported as."""

    MIG_PARTED = "mig-parted"
    GPU_OPERATOR = "gpu-operator"
    NVIDIA_SMI = "nvidia-smi"
    JSON = "json"

    @property
    def is_one_file(self) -> bool:
        """Whether the export is a single file."""
        return self in (Format.MIG_PARTED, Format.JSON)


_EXPORTS: Mapping[Format, Callable[[Problem, ChangePlan], Files]] = {
    Format.MIG_PARTED: mig_parted.export,
    Format.GPU_OPERATOR: gpu_operator.export,
    Format.NVIDIA_SMI: nvidia_smi.export,
    Format.JSON: layouts_json.export,
}


def export(to: Format, problem: Problem, change: ChangePlan) -> Files:
    """The files of that format for the target of a change plan, and for `nvidia-smi` the way there and back."""
    return _EXPORTS[to](problem, change)
