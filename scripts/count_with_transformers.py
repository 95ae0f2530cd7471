"""Counts parameters with the models that Hugging Face transformers builds, to check our own counting against.

Needs torch 2.13.0 and transformers 5.23.0 in an environment of their own; no weights are downloaded or allotted.
`python -m scripts.count_with_transformers COUNTS.jsonl` counts every `config` of a file of JSON lines anew and writes
`parameters` beside it; with `--catalogue` it prints the rows of planner/data/models.toml that differ.
"""

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

MODELS = Path(__file__).parent.parent / "planner" / "data" / "models.toml"


def count(config: dict[str, Any]) -> int:
    """Parameters of the model that transformers builds from a configuration."""
    import torch  # type: ignore[import-not-found,unused-ignore]
    import transformers  # type: ignore[import-not-found,unused-ignore]

    fields = {key: value for key, value in config.items() if key not in ("quantization_config", "model_type")}
    built = transformers.AutoConfig.for_model(config["model_type"], **fields)
    named = getattr(transformers, (config.get("architectures") or [""])[0], None)
    with torch.device("meta"):
        model = named(built) if named else transformers.AutoModelForCausalLM.from_config(built)
    return sum(parameter.numel() for parameter in model.parameters())


def main(arguments: list[str]) -> None:
    """Counts a file of configurations, or the catalogue."""
    if arguments == ["--catalogue"]:
        for row in tomllib.loads(MODELS.read_text(encoding="utf-8"))["model"]:
            if row.get("checked") and (found := count(row["config"])) != row["parameters"]:
                sys.stdout.write(f"{row['name']}: {row['parameters']:,} in the catalogue, {found:,} in transformers\n")
        return
    for name in arguments:
        path = Path(name)
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        counted = (json.dumps({**row, "parameters": count(row["config"])}, sort_keys=True) for row in rows)
        path.write_text("".join(f"{line}\n" for line in counted), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
