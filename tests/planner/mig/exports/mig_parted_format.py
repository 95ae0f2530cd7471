"""A strict reader of mig-parted's `version: v1`: it takes what the tool takes and refuses what it refuses.

After github.com/NVIDIA/mig-parted, api/spec/v1/spec.go and pkg/types/mig_profile.go: unknown and missing fields, types,
empty lists, profile names, and MIG devices on GPUs whose MIG mode is off.
"""

import re
from typing import Any

import yaml

PROFILE = re.compile(r"(?:[1-8]c\.)?[1-8]g\.\d+gb(?:\+[a-z][a-z0-9.]*(?:,[a-z][a-z0-9.]*)*|-me)?")
LABEL_VALUE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")

Config = dict[int, tuple[bool, dict[str, int]]]
"""By GPU index: whether MIG is on, and the MIG devices."""


class UniqueKeys(yaml.SafeLoader):
    """Refuses a mapping with the same key twice, as Go's parser does."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"a key comes twice: {keys}"
        return super().construct_mapping(node, deep)


def load_yaml(text: str) -> Any:
    return yaml.load(text, Loader=UniqueKeys)


def commented(text: str) -> str:
    """All comments as one line."""
    lines = [line.strip() for line in text.splitlines()]
    return " ".join(line.removeprefix("#").strip() for line in lines if line.startswith("#"))


def read_mig_parted(text: str) -> dict[str, list[dict[str, Any]]]:
    """The entries of each configuration, by name."""
    spec = load_yaml(text)
    assert isinstance(spec, dict)
    assert set(spec) == {"version", "mig-configs"}
    assert spec["version"] == "v1"
    configs = spec["mig-configs"]
    assert isinstance(configs, dict)
    assert configs, "at least one configuration is required"
    for name, entries in configs.items():
        assert isinstance(name, str)
        assert LABEL_VALUE.fullmatch(name), name
        assert isinstance(entries, list)
        assert entries, f"{name}: at least one entry is required"
        for entry in entries:
            _check_entry(entry)
    return dict(configs)


def by_gpu(entries: list[dict[str, Any]]) -> Config:
    """What a configuration says of each GPU; no GPU may be named twice."""
    found: Config = {}
    for entry in entries:
        for index in entry["devices"]:
            assert index not in found
            found[index] = (entry["mig-enabled"], entry.get("mig-devices", {}))
    return found


def _check_entry(entry: dict[str, Any]) -> None:
    assert set(entry) <= {"device-filter", "devices", "mig-enabled", "mig-devices"}
    assert {"devices", "mig-enabled"} <= set(entry)
    wanted = entry.get("device-filter", "")
    assert isinstance(wanted, str) or all(isinstance(one, str) for one in wanted)
    devices = entry["devices"]
    if isinstance(devices, str):
        assert devices == "all"
    else:
        assert devices
        assert all(type(index) is int and index >= 0 for index in devices)
    assert isinstance(entry["mig-enabled"], bool)
    if entry["mig-enabled"]:
        assert isinstance(entry["mig-devices"], dict)
    else:
        assert not entry.get("mig-devices")
    for profile, count in entry.get("mig-devices", {}).items():
        assert PROFILE.fullmatch(profile), profile
        assert type(count) is int
        assert count > 0
