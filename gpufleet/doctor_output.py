"""What `gpufleet doctor` says: for people in a terminal, and as JSON (docs/json.md)."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console

from gpufleet.json_output import timestamp
from gpufleet.text_output import literal, new_console
from planner.diagnosis import Diagnosis, Finding, Outcome, joined_fixes

_MARKS = {
    Outcome.OK: "[green]ok[/green]      ",
    Outcome.WARNING: "[yellow]lacking[/yellow] ",
    Outcome.FAILED: "[red]failed[/red]  ",
    Outcome.NOT_CHECKED: "[dim]unknown[/dim] ",
}


def doctor_document(diagnoses: Sequence[Diagnosis]) -> list[dict[str, Any]]:
    """`gpufleet doctor --json`: one object per target."""
    return [
        {
            "cluster": one.cluster,
            "source": one.source,
            "kind": one.kind,
            "target": one.target,
            "taken_at": timestamp(one.taken_at),
            "seconds": round(one.seconds, 3),
            "outcome": one.outcome.value,
            "version": one.version,
            "clock_skew_s": one.clock_skew_s,
            "newest_sample_age_s": one.newest_sample_age_s,
            "present": list(one.present),
            "findings": [
                {
                    "check": finding.check.value,
                    "outcome": finding.outcome.value,
                    "text": finding.text,
                    "cost": finding.cost,
                    "fix": finding.fix,
                }
                for finding in one.findings
            ],
        }
        for one in diagnoses
    ]


def print_diagnoses(diagnoses: Sequence[Diagnosis]) -> None:
    """Target by target, what is wrong with its cost and its fix below it; one fix for many gaps is told once."""
    console = new_console()
    if not diagnoses:
        console.print("No source is configured; `gpufleet init` writes a configuration from what it finds.")
        return
    for one in diagnoses:
        console.print(f"[bold]{literal(one.source)}[/bold] {literal(one.target)} ({literal(one.kind)})")
        for finding in one.findings:
            _print_finding(console, finding)
        _print_fixes(console, one.findings)
    failed = sum(one.outcome is Outcome.FAILED for one in diagnoses)
    lacking = sum(one.outcome is Outcome.WARNING for one in diagnoses)
    console.print(f"{len(diagnoses)} targets: {failed} failed, {lacking} lack something.")


def _print_finding(console: Console, finding: Finding) -> None:
    console.print(f"  {_MARKS[finding.outcome]} {finding.check.value}: {literal(finding.text)}", soft_wrap=True)
    if finding.cost is not None:
        console.print(f"           cost: {literal(finding.cost)}", soft_wrap=True)


def _print_fixes(console: Console, findings: Sequence[Finding]) -> None:
    fixes = joined_fixes(finding.fix for finding in findings if finding.fix is not None)
    if not fixes:
        return
    console.print("  [bold]To do[/bold]")
    for fix in fixes:
        for line in fix.splitlines():
            console.print(f"    {literal(line)}", soft_wrap=True)
