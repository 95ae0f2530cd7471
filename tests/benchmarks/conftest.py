"""The reference's instances, where they lie beside this checkout."""

from pathlib import Path

import pytest

from benchmarks.mig_instances import ReferenceInstances, reference_instances


@pytest.fixture(scope="session")
def published(reference: Path) -> ReferenceInstances:
    instances = reference_instances(reference / "placement")
    if instances is None:
        pytest.skip("the reference has no generator of instances")
    return instances
