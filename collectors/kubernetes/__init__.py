"""Kubernetes: nodes with GPUs, pods that ask for them, quotas, and devices that were claimed.

Studied: API servers 1.23 to 1.36; labels of GPU Feature Discovery from 2022 to 2026; resource.k8s.io v1beta1, v1beta2
and v1. Endpoint: the API server; every kind of object is listed once and watched from then on. Rights: `list` and
`watch` as in deploy/rbac.yaml; nothing is written and no secret is read. Known gaps: which device of a node a pod holds
is told by dynamic resource allocation only, elsewhere by dcgm-exporter or NVML.
"""
