"""Machines for the tests: boards with the layouts that were seen on real ones.

Profiles: `nvidia-smi mig -lgip` and `-lgipp` as printed in NVIDIA's MIG User Guide and in recordings of H100 and H200
boards (driver 590.48.01). Framebuffer sizes are those of the same recordings.
"""

from tests.collectors.nvml.fake_nvml.machine import (
    Code,
    FakeComputeInstance,
    FakeGpu,
    FakeInstance,
    FakeMemory,
    FakeProfile,
)

MIB = 1024**2

A100_PROFILES = (
    FakeProfile(
        profile_id=19,
        name="1g.5gb",
        slices=1,
        memory_mib=4864,
        multiprocessors=14,
        placements=tuple((start, 1) for start in range(7)),
    ),
    FakeProfile(
        profile_id=20,
        name="1g.5gb+me",
        slices=1,
        memory_mib=4864,
        multiprocessors=14,
        placements=tuple((start, 1) for start in range(7)),
    ),
    FakeProfile(
        profile_id=15,
        name="1g.10gb",
        slices=1,
        memory_mib=9856,
        multiprocessors=14,
        placements=((0, 2), (2, 2), (4, 2), (6, 2)),
    ),
    FakeProfile(
        profile_id=14,
        name="2g.10gb",
        slices=2,
        memory_mib=9856,
        multiprocessors=28,
        placements=((0, 2), (2, 2), (4, 2)),
    ),
    FakeProfile(
        profile_id=9, name="3g.20gb", slices=3, memory_mib=19968, multiprocessors=42, placements=((0, 4), (4, 4))
    ),
    FakeProfile(profile_id=5, name="4g.20gb", slices=4, memory_mib=19968, multiprocessors=56, placements=((0, 4),)),
    FakeProfile(profile_id=0, name="7g.40gb", slices=7, memory_mib=40192, multiprocessors=98, placements=((0, 8),)),
)

GPM_BUSY = {1: 61.5, 2: 43.25, 3: 12.5, 5: 30.0, 10: 55.0, 11: 0.0, 12: 4.0, 13: 8.0}
GPM_LINKS = {20: 512.0, 21: 256.0, 60: 100.0, 61: 200.0}


def gpu_uuid(number: int) -> str:
    """A UUID that names its number."""
    return f"GPU-{number:08x}-0000-4000-8000-000000000000"


def a100(number: int = 0, **more: object) -> FakeGpu:
    """An A100-SXM4-40GB with twelve NVLinks, MIG off."""
    described: dict[str, object] = {
        "uuid": gpu_uuid(number),
        "name": "NVIDIA A100-SXM4-40GB",
        "bus_id": f"00000000:{0x10 + number:02X}:00.0",
        "memory": FakeMemory(total=40960 * MIB, reserved=557 * MIB, used=1024 * MIB),
        "mig_mode": (0, 0),
        "profiles": A100_PROFILES,
        "links": 12,
        "link_bytes": {(field, link): 1000 * (link + 1) for field in (138, 139) for link in range(12)},
        "gpm": Code(3),
    }
    return FakeGpu(**described | more)  # type: ignore[arg-type]


def a100_seven_instances(number: int = 0) -> FakeGpu:
    """Seven 1g.5gb: GPU instances 7 to 13, as the guide shows them."""
    return a100(
        number,
        mig_mode=(1, 1),
        utilization=Code(3),
        encoder=Code(3),
        decoder=Code(3),
        remapped_rows=Code(3),
        links=Code(3),
        instances=[
            FakeInstance(
                gi_id=7 + place,
                profile_id=19,
                start=place,
                size=1,
                memory=FakeMemory(total=4864 * MIB, reserved=0, used=(3 + place) * MIB),
                compute_instances=[
                    FakeComputeInstance(index=place, ci_id=0, name="1g.5gb", uuid=f"MIG-{place}{place}-7")
                ],
            )
            for place in range(7)
        ],
    )


def h100_mixed() -> FakeGpu:
    """An H100 cut into 3g.40gb, 2g.20gb and two 1g.10gb, under load: GPU instances 2, 3, 9 and 10."""

    def instance(
        place: int, gi_id: int, kind: tuple[int, str], where: tuple[int, int], mib: tuple[int, int]
    ) -> FakeInstance:
        total, used = mib
        return FakeInstance(
            gi_id=gi_id,
            profile_id=kind[0],
            start=where[0],
            size=where[1],
            memory=FakeMemory(total=total * MIB, reserved=0, used=used * MIB),
            compute_instances=[
                FakeComputeInstance(index=place, ci_id=0, name=kind[1], uuid=f"MIG-{place:08d}-0-0-0-{place}")
            ],
            gpm=dict(GPM_BUSY) if gi_id == 2 else dict.fromkeys(GPM_BUSY, 0.0),
        )

    return FakeGpu(
        uuid=gpu_uuid(0x100),
        name="NVIDIA H100 80GB HBM3",
        bus_id="00000000:00:09.0",
        memory=FakeMemory(total=81559 * MIB, reserved=479 * MIB, used=11125 * MIB),
        mig_mode=(1, 1),
        utilization=Code(3),
        encoder=Code(3),
        decoder=Code(3),
        remapped_rows=Code(3),
        power_mw=432_210,
        temperature=53,
        memory_temperature=58,
        clocks_mhz={1: 1980, 2: 2619},
        clock_reasons=0,
        violations_ns={0: 0, 1: 0},
        ecc={0: 0, 1: 0},
        pcie_replays=9,
        pcie_kb_per_s={0: 9139, 1: 19191},
        gpm=dict(GPM_LINKS),
        instances=[
            instance(0, 2, (9, "3g.40gb"), (4, 4), (40448, 11091)),
            instance(1, 3, (14, "2g.20gb"), (0, 2), (20096, 17)),
            instance(2, 9, (19, "1g.10gb"), (2, 1), (9984, 9)),
            instance(3, 10, (19, "1g.10gb"), (3, 1), (9984, 9)),
        ],
    )


def h200_shared_instance() -> FakeGpu:
    """An H200 whose GPU instance 2 (3g.71gb) holds two compute instances, which share its framebuffer."""
    return FakeGpu(
        uuid=gpu_uuid(0x200),
        name="NVIDIA H200",
        bus_id="00000000:83:00.0",
        memory=FakeMemory(total=143771 * MIB, reserved=614 * MIB, used=20000 * MIB),
        mig_mode=(1, 1),
        utilization=Code(3),
        encoder=Code(3),
        decoder=Code(3),
        remapped_rows=Code(3),
        gpm=dict(GPM_LINKS),
        instances=[
            FakeInstance(
                gi_id=2,
                profile_id=9,
                start=0,
                size=4,
                memory=FakeMemory(total=71424 * MIB, reserved=0, used=20000 * MIB),
                gpm=dict(GPM_BUSY),
                compute_instances=[
                    FakeComputeInstance(index=0, ci_id=0, name="1c.3g.71gb", uuid="MIG-aaaaaaaa-0-0-0-0"),
                    FakeComputeInstance(index=3, ci_id=1, name="2c.3g.71gb", uuid="MIG-bbbbbbbb-0-0-0-0"),
                ],
            )
        ],
    )


def h200(number: int = 0) -> FakeGpu:
    """A whole H200 under load, with GPM."""
    return FakeGpu(
        uuid=gpu_uuid(0x300 + number),
        name="NVIDIA H200",
        bus_id=f"00000000:{0x83 + number:02X}:00.0",
        memory=FakeMemory(total=143771 * MIB, reserved=614 * MIB, used=32362 * MIB),
        mig_mode=(0, 0),
        utilization=(100, 7),
        power_mw=626_260,
        temperature=52,
        memory_temperature=40,
        clocks_mhz={1: 1980, 2: 3201},
        clock_reasons=0,
        gpm=GPM_BUSY | GPM_LINKS,
        links=18,
        link_bytes={(field, link): 5000 for field in (138, 139) for link in range(18)},
    )


def t4(number: int = 0) -> FakeGpu:
    """A T4: no MIG, no NVLink, no GPM, no row remapping, no memory sensor, and a driver that has none of the new."""
    return FakeGpu(
        uuid=gpu_uuid(0x400 + number),
        name="Tesla T4",
        bus_id=f"00000000:{0x3B + number:02X}:00.0",
        memory=FakeMemory(total=15360 * MIB, reserved=449 * MIB, used=0),
        max_mig_devices=0,
        utilization=(0, 0),
        power_mw=9_840,
        temperature=30,
        memory_temperature=Code(3),
        clocks_mhz={1: 300, 2: 405},
        remapped_rows=Code(3),
        links=Code(3),
    )


def gb10() -> FakeGpu:
    """A GB10 (DGX Spark): its memory is the machine's, so NVML has no framebuffer to tell of."""
    return FakeGpu(
        uuid=gpu_uuid(0x500),
        name="NVIDIA GB10",
        bus_id="0000000F:01:00.0",
        memory=Code(3),
        power_mw=4_410,
        temperature=38,
        memory_temperature=Code(3),
        ecc={0: Code(3), 1: Code(3)},
        remapped_rows=Code(3),
        violations_ns={0: Code(3), 1: Code(3)},
        pcie_replays=Code(3),
        pcie_kb_per_s={0: Code(3), 1: Code(3)},
    )


OLD_DRIVER_LACKS = frozenset(
    {
        "nvmlDeviceGetMemoryInfo_v2",
        "nvmlDeviceGetTemperatureV",
        "nvmlDeviceGetCurrentClocksEventReasons",
        "nvmlDeviceGetGpuInstanceProfileInfoV",
        "nvmlDeviceGetGpuInstanceProfileInfoByIdV",
        "nvmlGpmQueryDeviceSupport",
        "nvmlGpmSampleAlloc",
        "nvmlGpmSampleGet",
        "nvmlGpmMetricsGet",
        "nvmlDeviceGetComputeRunningProcesses_v3",
        "nvmlDeviceGetGraphicsRunningProcesses_v3",
        "nvmlDeviceGetMPSComputeRunningProcesses_v3",
    }
)
"""Functions that came after R470: memory v2 with R510, GPM with R520, the new names of clock events with R535."""
