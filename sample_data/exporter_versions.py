"""How dcgm-exporter versions differ on the wire, as far as the simulated cluster imitates it.

Sources: NVIDIA/dcgm-exporter release notes and default-counters.csv of each version; the 4.9.0 names from its release
note and the field tables of DCGM 4.6 and 4.7.
"""

from dataclasses import dataclass
from enum import StrEnum


class ExporterVersion(StrEnum):
    """Image tags: DCGM version, then exporter version."""

    V3_3 = "3.3.9-3.6.1"
    V4_5 = "4.5.2-4.8.1"
    V4_6 = "4.6.0-4.8.3"
    V4_7 = "4.7.0-4.9.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class WireStyle:
    """What a version says differently from the others."""

    base_units: bool  # names and units of 4.9 and later; before: MiB, MHz, percent, mJ
    hostname_label: str  # renamed with DCGM 4.6.0
    driver_label: str
    empty_pod_labels: bool  # devices without a pod carry container="", namespace="", pod=""
    pod_uid: bool
    xid_text: bool  # XID_ERRORS carries err_code and err_msg
    reserved_memory: bool
    old_clock_events_name: bool  # CLOCK_THROTTLE_REASONS
    violations: bool  # opt-in rows; left out where the unit was still in doubt (us or ns)
    nvlink_is_gauge: bool


WIRE_STYLES: dict[ExporterVersion, WireStyle] = {
    ExporterVersion.V3_3: WireStyle(
        base_units=False,
        hostname_label="Hostname",
        driver_label="DCGM_FI_DRIVER_VERSION",
        empty_pod_labels=True,
        pod_uid=False,
        xid_text=False,
        reserved_memory=False,
        old_clock_events_name=True,
        violations=False,
        nvlink_is_gauge=False,
    ),
    ExporterVersion.V4_5: WireStyle(
        base_units=False,
        hostname_label="Hostname",
        driver_label="DCGM_FI_DRIVER_VERSION",
        empty_pod_labels=False,
        pod_uid=True,
        xid_text=True,
        reserved_memory=True,
        old_clock_events_name=False,
        violations=True,
        nvlink_is_gauge=False,
    ),
    ExporterVersion.V4_6: WireStyle(
        base_units=False,
        hostname_label="hostname",
        driver_label="DCGM_FI_DRIVER_VERSION",
        empty_pod_labels=False,
        pod_uid=True,
        xid_text=True,
        reserved_memory=True,
        old_clock_events_name=False,
        violations=True,
        nvlink_is_gauge=True,
    ),
    ExporterVersion.V4_7: WireStyle(
        base_units=True,
        hostname_label="hostname",
        driver_label="DCGM_FI_SYSTEM_DRIVER_VERSION",
        empty_pod_labels=False,
        pod_uid=True,
        xid_text=True,
        reserved_memory=True,
        old_clock_events_name=False,
        violations=True,
        nvlink_is_gauge=True,
    ),
}
