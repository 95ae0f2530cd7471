"""What can be taken away from a plan, one button each; made when somebody asks for it."""

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from dashboard.what_if_plan import Answer
from planner.mig.exports import Format, export
from planner.mig.exports.gpu_operator import CONFIG_MAP_FILE, LABELS_FILE
from planner.mig.plan_file import plan_document
from planner.mig.problem_file import problem_document

_ZIP_MOMENT = (2000, 1, 1, 0, 0, 0)  # the same plan gives the same file


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """One file to take away."""

    label: str
    help: str
    file_name: str
    mime: str
    make: Callable[[], str | bytes]


def downloads(answer: Answer) -> tuple[Download, ...]:
    """Every export, that of mig-parted first."""

    def text(form: Format, name: str | None = None) -> Callable[[], str]:
        return partial(_text, answer, form, name)

    return (
        Download(
            label="mig-parted file",
            help="The layouts as nvidia-mig-parted applies them; start positions are not part of that format.",
            file_name="mig-parted.yaml",
            mime="application/yaml",
            make=text(Format.MIG_PARTED),
        ),
        Download(
            label="GPU Operator ConfigMap",
            help="The layouts for the MIG Manager of the GPU Operator.",
            file_name=CONFIG_MAP_FILE,
            mime="application/yaml",
            make=text(Format.GPU_OPERATOR, CONFIG_MAP_FILE),
        ),
        Download(
            label="Node labels",
            help="The kubectl commands that give each node its configuration.",
            file_name=LABELS_FILE,
            mime="text/x-shellscript",
            make=text(Format.GPU_OPERATOR, LABELS_FILE),
        ),
        Download(
            label="nvidia-smi scripts",
            help="Per node, wave by wave, with explicit starts, and the way back.",
            file_name="nvidia-smi.zip",
            mime="application/zip",
            make=partial(_zipped, answer, Format.NVIDIA_SMI),
        ),
        Download(
            label="Plan (JSON)",
            help="The whole plan, as gpufleet mig plan writes it; gpufleet mig export and replay read it.",
            file_name="plan.json",
            mime="application/json",
            make=partial(_plan, answer),
        ),
        Download(
            label="Problem (JSON)",
            help="What was asked, for gpufleet mig plan --problem.",
            file_name="problem.json",
            mime="application/json",
            make=partial(_problem, answer),
        ),
    )


def _files(answer: Answer, form: Format) -> Mapping[str, str]:
    return export(form, answer.problem, answer.change)


def _text(answer: Answer, form: Format, name: str | None) -> str:
    files = _files(answer, form)
    return next(iter(files.values())) if name is None else files[name]


def _zipped(answer: Answer, form: Format) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in sorted(_files(answer, form).items()):
            archive.writestr(zipfile.ZipInfo(name, _ZIP_MOMENT), text)
    return packed.getvalue()


def _plan(answer: Answer) -> str:
    return _json(plan_document(answer.problem, answer.change, seconds={"total": answer.seconds}))


def _problem(answer: Answer) -> str:
    return _json(problem_document(answer.problem))


def _json(document: object) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"
