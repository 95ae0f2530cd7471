"""Names that look real and depend on nothing but a seed: UUIDs, pod names, hash suffixes."""

import hashlib
from uuid import UUID

# Kubernetes' own alphabet for generated names: no vowels and no look-alikes, so that no words arise.
# Source: k8s.io/apimachinery/pkg/util/rand.
_SAFE_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


def digest(*parts: object) -> bytes:
    """32 bytes that depend on the parts and their order only, the same on every machine and Python."""
    return hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).digest()


def number(*parts: object) -> int:
    """A 64-bit number from the parts."""
    return int.from_bytes(digest(*parts)[:8], "big")


def fraction(*parts: object) -> float:
    """A number in 0..1 (1 excluded) from the parts."""
    return number(*parts) / 2**64


def gpu_uuid(*parts: object) -> str:
    """NVIDIA's form of a GPU's name."""
    return f"GPU-{UUID(bytes=digest('gpu', *parts)[:16])}"


def pod_uid(*parts: object) -> str:
    """A version 4 UUID, as the API server makes them."""
    return str(UUID(bytes=digest("pod", *parts)[:16], version=4))


def suffix(length: int, *parts: object) -> str:
    """A generated-name suffix as Kubernetes writes it."""
    return "".join(_SAFE_ALPHABET[byte % len(_SAFE_ALPHABET)] for byte in digest("suffix", *parts)[:length])
