"""How `gpufleet memory` answers people in a terminal: the terms, the verdict, and what to type."""

from typing import Any

from rich.console import Console

from dashboard.formatting import ABSENT, bytes_text, number
from gpufleet.text_output import literal, new_console, new_table

VERDICTS = {
    "fits": "It fits.",
    "tight": "It is tight: the limit lies inside the range.",
    "does_not_fit": "It does not fit.",
}
_MOST_SHOWN = 40


def print_answer(document: dict[str, Any]) -> None:
    """The table of terms, the verdict with its reasons, the command and what was assumed."""
    console = new_console()
    ranks = document["ranks"]
    each = f", each of {ranks} GPUs" if ranks > 1 else ""
    version = f" {document['engine_version']}" if document["engine_version"] else ""
    console.print(
        f"[bold]{literal(document['model'])}[/bold] on {literal(document['device'])}{each}, "
        f"{literal(document['engine'] + version)}"
    )
    evidence = document["device_evidence"]
    size = bytes_text(document["per_rank"]["device_bytes"])
    console.print(f"Device memory {size} ({evidence['basis']}: {literal(evidence['source'])})")
    if document["terms"]:
        table = new_table("Term", "Expected", "Low", "High", "Known by", "Source")
        for term in document["terms"]:
            sizes = (bytes_text(term[key]) for key in ("bytes", "low", "high"))
            table.add_row(term["name"].replace("_", " "), *sizes, term["basis"], literal(term["source"]))
        console.print(table)
        _print_room(console, document)
    for correction in document["corrections"]:
        console.print(f"corrected: {literal(correction['sentence'])}")
    console.print(f"[bold]{VERDICTS[document['verdict']]}[/bold]")
    for reason in document["reasons"]:
        console.print(f"  {literal(reason)}")
    if document["launch"] and document["verdict"] != "does_not_fit":
        console.print(f"Start it with:\n  {literal(document['launch'])}")
    for sentence in document["assumed"]:
        console.print(f"note: {literal(sentence)}")


def print_search(document: dict[str, Any]) -> None:
    """Options that hold the need, then the rejected ones with their reasons."""
    console = new_console()
    need = document["need"]
    wanted = f"{need['concurrency']} requests of {need['context']:,} tokens at once"
    console.print(f"[bold]{literal(document['model'])}[/bold], {wanted}")
    if document["options"]:
        priced = any(option["price_usd_per_hour"] is not None for option in document["options"])
        table = new_table(
            "Device", "Precision", "GPUs taken", *(["USD/h"] if priced else []), "Verdict", "Room for", "Why"
        )
        for option in document["options"][:_MOST_SHOWN]:
            price = [number(option["price_usd_per_hour"])] if priced else []
            table.add_row(
                literal(option["device"]),
                literal(_precision(option)),
                number(option["gpus_taken"]),
                *price,
                option["verdict"].replace("_", " "),
                number(option["max_concurrency"]),
                literal(option["reason"]),
            )
        console.print(table)
        if len(document["options"]) > _MOST_SHOWN:
            console.print(f"and {len(document['options']) - _MOST_SHOWN} dearer ones; --json lists all of them.")
        console.print(f"Start the first with:\n  {literal(document['options'][0]['launch'])}")
    else:
        console.print("[bold]No option holds it.[/bold]")
    rejected = document["rejected"]
    for option in rejected[:_MOST_SHOWN]:
        console.print(
            f"rejected: {literal(option['device'])} ({literal(_precision(option))}): {literal(option['reason'])}"
        )
    if len(rejected) > _MOST_SHOWN:
        console.print(f"and {len(rejected) - _MOST_SHOWN} more; --json lists all of them.")
    for note in document["notes"]:
        console.print(f"note: {literal(note)}")


def print_learnt(document: dict[str, Any]) -> None:
    """What the log measured beside the prediction, and where it is kept."""
    console = new_console()
    version = f" {document['engine_version']}" if document["engine_version"] else ""
    model, device = document["model"] or "unnamed model", document["device"] or "unknown device"
    console.print(f"[bold]{literal(model)}[/bold] on {literal(device)}, {literal(document['engine'] + version)}")
    if document["failure"]:
        console.print(f"The start failed: {literal(document['failure'])}")
        if document["predicted_verdict"]:
            console.print(f"Predicted: {VERDICTS[document['predicted_verdict']]}")
    if document["comparison"]:
        table = new_table("Term", "Measured", "Predicted", "Low", "High", "Measured / predicted", "In range")
        for term in document["comparison"]:
            table.add_row(
                term["name"].replace("_", " "),
                *(bytes_text(term[key]) for key in ("measured", "predicted", "low", "high")),
                ABSENT if term["factor"] is None else f"{term['factor']:.3f}",
                "yes" if term["inside"] else "no",
            )
        console.print(table)
    else:
        for name, value in document["measured"].items():
            if name.endswith("_bytes"):
                console.print(f"  {name.removesuffix('_bytes').replace('_', ' ')}: {bytes_text(value)}")
    for correction in document["corrections"]:
        console.print(f"from now on: {literal(correction['sentence'])}")
    if document["recorded"]:
        console.print(f"Kept in {literal(document['recorded_in'])}.")
    for note in document["notes"]:
        console.print(f"note: {literal(note)}")


def _print_room(console: Console, document: dict[str, Any]) -> None:
    concurrency = document["max_concurrency"]
    parts = [
        f"budget {bytes_text(document['per_rank']['budget_bytes'])}",
        f"KV cache for {number(document['kv_cache_tokens'])} tokens",
        f"{concurrency:.2f} requests at once" if concurrency is not None else "",
        f"longest single request {number(document['max_context'])} tokens" if document["max_context"] else "",
    ]
    console.print(", ".join(part for part in parts if part))


def _precision(option: dict[str, Any]) -> str:
    weights = option["quantization"] or "as stored"
    cache = option["kv_cache_dtype"]
    return weights if cache is None else f"{weights}, KV {cache}"
