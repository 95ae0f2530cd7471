"""Langfuse, a store of traces: tokens and money per hour, model and environment, user or tag.

Studied: Langfuse server 3 and 4.16 (`fern/apis/server`, `web/src/pages/api/public`, `packages/shared/.../query`) and
the Python SDK 5.0.4. Endpoints, in the order in which they are tried: `/api/public/v2/metrics`, `/api/public/metrics`,
`/api/public/metrics/daily`, `/api/public/v2/observations`, `/api/public/observations`. Rights: the public and the
secret key of one project. Known gaps: `metrics/daily` knows days and models only; observations of the first API carry
neither user nor tags; a plan of Langfuse Cloud shows no days before its data access window.
"""
