"""Ollama, asked what it has loaded and what it could load.

Studied: Ollama 0.5 to 0.33 (`docs/openapi.yaml`, `docs/api.md`, `api/types.go`). Endpoints: `/api/ps`, `/api/tags`,
`/api/version`, `POST /api/show` once per digest; port 11434, JSON. Rights: none, Ollama knows no log-in; a proxy in
front may want a bearer token. Known gaps: Ollama has no metrics (no `/metrics` in its routes), so requests and tokens
are known only where a gateway in front of it counts them; its processes and devices are not told.
"""
