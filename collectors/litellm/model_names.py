"""Which of LiteLLM's four names of a model is the model: the one place that says so.

- `requested_model` is what the client wrote: a public name, which may stand for several deployments.
- `model_group` is the public name of the deployments that share the work: `model_name` in LiteLLM's configuration.
- `litellm_model_name` (on metrics of deployments) and `model` (on metrics of tokens and money) are the model that the
  deployment calls, without its provider: `litellm_params.model` "hosted_vllm/Qwen/Qwen3-8B" is "Qwen/Qwen3-8B", the
  name under which vLLM serves it.

Readings are kept under the last of these, because engines and devices are found by it. Metrics that only carry
`requested_model` (failed requests) are given the model that the same scrape shows for that public name, where there is
exactly one; otherwise they keep the public name.

Source: litellm/types/integrations/prometheus.py (UserAPIKeyLabelNames) of 1.109.1.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from collectors.litellm.wire import label

MODEL_LABELS = ("model", "litellm_model_name")
PUBLIC_LABELS = ("requested_model", "model_group")


class ModelNames:
    """The models that one scrape shows behind each public name."""

    def __init__(self, label_sets: Iterable[Mapping[str, str]]) -> None:
        behind: dict[str, set[str]] = defaultdict(set)
        for labels in label_sets:
            model = _first(labels, MODEL_LABELS)
            if model is not None:
                for name in PUBLIC_LABELS:
                    public = label(labels, name)
                    if public is not None:
                        behind[public].add(model)
        self._behind = {public: next(iter(models)) for public, models in behind.items() if len(models) == 1}

    def of(self, labels: Mapping[str, str]) -> str | None:
        """The model that a sample is about; None for one about no model (a scrape, a health check)."""
        model = _first(labels, MODEL_LABELS)
        if model is not None:
            return model
        public = _first(labels, PUBLIC_LABELS)
        return None if public is None else self._behind.get(public, public)


def _first(labels: Mapping[str, str], names: Iterable[str]) -> str | None:
    return next((value for name in names if (value := label(labels, name)) is not None), None)
