"""The options that several commands of `gpufleet memory` share."""

from pathlib import Path
from typing import Annotated

import typer

from planner.memory.estimate import Engine

GpuOption = Annotated[
    str | None, typer.Option("--gpu", metavar="BOARD", help="Id in the catalogue, or the name the driver prints.")
]
MigOption = Annotated[str | None, typer.Option("--mig", metavar="PROFILE", help="A MIG device of that board.")]
EngineOption = Annotated[
    Engine | None,
    typer.Option(
        "--engine",
        metavar="ENGINE",
        help="vllm, llama.cpp or ollama; by default vllm, and llama.cpp for a GGUF file.",
    ),
]
VersionOption = Annotated[
    str | None,
    typer.Option("--engine-version", metavar="V", help="Such as 0.19.0, or b6000; by default the newest known."),
]
DeviceBytesOption = Annotated[
    int | None,
    typer.Option("--device-memory-bytes", metavar="B", help="Memory that CUDA sees, in place of what is known."),
]
UtilizationOption = Annotated[
    float | None,
    typer.Option(
        "--gpu-memory-utilization",
        metavar="U",
        help="Share of the device that vLLM may use; by default 0.92, and 0.9 before 0.22.",
    ),
]
BatchedOption = Annotated[
    int | None,
    typer.Option(
        "--max-num-batched-tokens",
        metavar="N",
        help="Tokens of one step of vLLM; by default 2048, or 8192 from 70 GiB on. V0: the context.",
    ),
]
LengthOption = Annotated[
    int | None,
    typer.Option("--max-model-len", metavar="N", help="Tokens of one request; by default all that the model takes."),
]
SequencesOption = Annotated[
    int | None,
    typer.Option(
        "--max-num-seqs",
        metavar="N",
        help="Requests at once; vLLM's default is 256, or 1024 from 70 GiB on. Slots of llama.cpp.",
    ),
]
BlockOption = Annotated[
    int | None, typer.Option("--block-size", metavar="N", help="Tokens of one block of vLLM's cache; by default 16.")
]
EagerOption = Annotated[bool, typer.Option("--enforce-eager", help="No CUDA graphs.")]
StoreOption = Annotated[
    str | None,
    typer.Option("--store", metavar="URL", help="Store of measured runs, in place of the one in the configuration."),
]
ServerOption = Annotated[
    str | None, typer.Option("--server", metavar="URL", help="A running vLLM: its settings, and what it measured.")
]
OllamaOption = Annotated[
    str | None, typer.Option("--ollama", metavar="URL", help="An Ollama server; MODEL is one of its models.")
]
HubOption = Annotated[
    bool, typer.Option("--hub", help="MODEL is a repository of the Hugging Face hub: its headers are read there.")
]
RevisionOption = Annotated[
    str | None, typer.Option("--revision", metavar="REF", help="Branch, tag or commit of that repository.")
]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Configuration whose store holds measured runs.")
]
