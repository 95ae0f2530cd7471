"""Which devices dynamic resource allocation has given to whom, and which GPUs it publishes for each node.

Sources: Kubernetes, "Dynamic Resource Allocation"; NVIDIA/k8s-dra-driver-gpu, deviceinfo.go and mig.go (names and
attributes of devices). MIG devices that are made on demand are published without a UUID; their name tells the GPU and
the profile: `gpu-0-mig-1g5gb-19-0`. A GPU that can be passed through to a virtual machine is published as `gpu-vfio-0`
too, with a UUID that is made up from its PCI address and a name out of the PCI database.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from collectors.kubernetes.nodes import PublishedGpus
from collectors.kubernetes.wire_claims import ClaimObject, Device, SliceObject
from planner.cluster_facts import ClaimedDevice
from planner.units import GpuUuid, NodeName

GPU_DRIVER = "gpu.nvidia.com"
"""Devices of other drivers (compute-domain.nvidia.com, networks) are no GPUs."""

PASSED_THROUGH = "vfio"
"""Type of devices for virtual machines."""

_BUS_NAMES = ("pciBusID", "pcieBusID")
_PARENT = re.compile(r"(gpu-[0-9]+)-mig-.+")
_MIG_NAME = re.compile(r"gpu-[0-9]+-mig-([0-9]+c)?([0-9]+g)([0-9]+gb)(-[a-z]+)?(?:-[0-9]+){1,2}")
_ENDINGS = {None: "", "-gfx": "+gfx", "-meall": "+me.all"}
"""Endings of profiles in names of devices; `-me` may be +me or -me, which no name tells."""
_GPU_UUID = re.compile(r"GPU-[0-9A-Za-z-]{1,76}")
_MIG_UUID = re.compile(r"MIG-[0-9A-Za-z/-]{1,120}")
_BUS_ID = re.compile(r"([0-9a-f]{4,8}):([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])", re.IGNORECASE)
_SEMANTIC = re.compile(r"([0-9]+)\.([0-9]+)(?:\.([0-9]+))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Published:
    device: Device
    node: NodeName | None


class DeviceIndex:
    """All GPUs and MIG devices that are published, by pool and name."""

    def __init__(self, slices: Iterable[SliceObject]) -> None:
        of_gpus = [one for one in slices if one.spec.driver == GPU_DRIVER]
        newest: dict[str, int] = defaultdict(int)
        for one in of_gpus:
            newest[one.spec.pool.name] = max(newest[one.spec.pool.name], one.spec.pool.generation)
        self._by_place: dict[tuple[str, str], _Published] = {}
        for one in of_gpus:
            if one.spec.pool.generation < newest[one.spec.pool.name]:
                continue
            for device in one.spec.devices:
                node = device.node_name or one.spec.node_name
                self._by_place[one.spec.pool.name, device.name] = _Published(
                    device=device, node=None if not node else NodeName(node)
                )

    def by_node(self) -> dict[NodeName, PublishedGpus]:
        """What is published of the GPUs of each node."""
        found: dict[NodeName, PublishedGpus] = defaultdict(PublishedGpus)
        for (pool, _), published in self._by_place.items():
            if published.node is None:
                continue
            gpus = found[published.node]
            device = published.device
            uuid = self._gpu_uuid(pool, device)
            if uuid is not None:
                gpus.uuids.add(uuid)
            product = device.attribute("productName")
            if product is not None and device.attribute("type") != PASSED_THROUGH:
                gpus.products.add(product)
            version = device.attribute("driverVersion")
            if version is not None:
                gpus.driver_version = driver_version(version)
        return dict(found)

    def claimed(self, claim: ClaimObject) -> list[ClaimedDevice]:
        """The GPUs and MIG devices that a claim was given; those it may only watch (adminAccess) are not its own."""
        allocation = claim.status.allocation
        if allocation is None:
            return []
        pods = sorted(
            consumer.name
            for consumer in claim.status.reserved_for
            if consumer.resource == "pods" and not consumer.api_group
        )
        devices = []
        for given in allocation.devices.results:
            if given.driver != GPU_DRIVER or given.admin_access:
                continue
            published = self._by_place.get((given.pool, given.device))
            device = Device(name=given.device) if published is None else published.device
            node = published.node if published is not None else None
            selected = allocation.node
            own_uuid = device.attribute("uuid") or ""
            bus_id = device.attribute(*_BUS_NAMES) or self._parent_attribute(given.pool, device)
            devices.append(
                ClaimedDevice(
                    claim_namespace=claim.metadata.namespace,
                    claim_name=claim.metadata.name,
                    pods=tuple(pods),
                    driver=given.driver,
                    pool=given.pool,
                    device=given.device,
                    node=node or (NodeName(selected) if selected else None),
                    gpu_uuid=self._gpu_uuid(given.pool, device),
                    mig_uuid=own_uuid if _MIG_UUID.fullmatch(own_uuid) else None,
                    profile=device.attribute("profile") or profile_in_name(device.name),
                    pci_bus_id=None if bus_id is None else dcgm_bus_id(bus_id),
                )
            )
        return devices

    def _gpu_uuid(self, pool: str, device: Device) -> GpuUuid | None:
        """The GPU itself, or the one that a MIG device is cut from."""
        for told in (device.attribute("parentUUID"), device.attribute("uuid")):
            if told is not None and _GPU_UUID.fullmatch(told):
                return GpuUuid(told)
        parent = self._parent(pool, device) or self._same_card(pool, device)
        told = None if parent is None else parent.attribute("uuid")
        return GpuUuid(told) if told is not None and _GPU_UUID.fullmatch(told) else None

    def _parent(self, pool: str, device: Device) -> Device | None:
        found = _PARENT.fullmatch(device.name)
        published = None if found is None else self._by_place.get((pool, found[1]))
        return None if published is None else published.device

    def _same_card(self, pool: str, device: Device) -> Device | None:
        """The GPU as which a device that is passed through is published too; they share the PCI address."""
        address = device.attribute(*_BUS_NAMES)
        if address is None or device.attribute("type") != PASSED_THROUGH:
            return None
        for (of_pool, _), published in self._by_place.items():
            other = published.device
            if of_pool == pool and other.attribute("type") == "gpu" and other.attribute(*_BUS_NAMES) == address:
                return other
        return None

    def _parent_attribute(self, pool: str, device: Device) -> str | None:
        parent = self._parent(pool, device)
        return None if parent is None else parent.attribute(*_BUS_NAMES)


def holds_gpus(claim: ClaimObject) -> bool:
    """Whether a claim was given GPUs, or may be: nothing was given yet."""
    allocation = claim.status.allocation
    return allocation is None or any(given.driver == GPU_DRIVER for given in allocation.devices.results)


def profile_in_name(name: str) -> str | None:
    """The MIG profile in the name of a device, where it is spelled without dots: `1g5gb` is 1g.5gb."""
    found = _MIG_NAME.fullmatch(name)
    if found is None or found[4] not in _ENDINGS:
        return None
    compute = f"{found[1]}." if found[1] else ""
    return f"{compute}{found[2]}.{found[3]}{_ENDINGS[found[4]]}"


def dcgm_bus_id(bus_id: str) -> str | None:
    """A PCI address as DCGM spells it, `00000000:1B:00.0`, from any spelling of it; None for what is none."""
    found = _BUS_ID.fullmatch(bus_id)
    if found is None:
        return None
    domain, bus, device, function = found.groups()
    return f"{domain.upper():0>8}:{bus.upper()}:{device.upper()}.{function}"


def driver_version(semantic: str) -> str | None:
    """A driver's version as NVIDIA writes it, from semantic versioning, which knows no leading zeros.

    580.126.9 is 580.126.09: the last number has two digits, and so has the second where there are only two.
    """
    found = _SEMANTIC.fullmatch(semantic)
    if found is None:
        return None
    major, minor, patch = found.groups()
    return f"{major}.{minor:0>2}" if patch is None else f"{major}.{minor}.{patch:0>2}"
