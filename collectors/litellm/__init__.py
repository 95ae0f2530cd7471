"""LiteLLM, a gateway in front of models: who asked for what, how many tokens, what it cost.

Studied: LiteLLM 1.106.2 and 1.109.1 (`litellm/integrations/prometheus.py`,
`litellm/proxy/management_endpoints/common_daily_activity.py`, `docs/proxy/prometheus`). Endpoints: `/metrics/`
(Prometheus text; callback `prometheus`), `/user|team|tag/daily/activity[/aggregated]` (JSON; needs LiteLLM's
database). Rights: a key that may read `/metrics` (any, by default), and for the daily figures of all teams one of an
admin viewer: another key is shown its own use only, without a word about the rest. Known gaps: a restart of the
gateway without its database loses what was not scraped; latency is that of the gateway and is left to the engines.
"""
