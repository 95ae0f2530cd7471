"""Names, addresses and field values as NVML spells them, and what is none."""

import ctypes

import pynvml
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.nvml.refusals import Kind, Refusal
from collectors.nvml.wire import bus_id_of, field_value, instance_profile_of, mig_name_of, mig_uuid_of, uuid_of


@pytest.mark.parametrize(
    ("told", "spelled"),
    [
        ("00000000:1A:00.0", "00000000:1A:00.0"),
        ("0000:1a:00.0", "00000000:1A:00.0"),
        ("0000000F:01:00.0", "0000000F:01:00.0"),
        ("", None),
        ("1A:00.0", None),
        ("00000000:1A:00.0\n", None),
    ],
)
def test_addresses_are_spelled_as_dcgm_does(told: str, spelled: str | None) -> None:
    pci = pynvml.nvmlPciInfo_t()
    pci.busId = told.encode()
    assert bus_id_of(pci) == spelled


@pytest.mark.parametrize(
    ("told", "name", "profile"),
    [
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "1g.5gb", "1g.5gb"),
        ("NVIDIA H200 MIG 1c.3g.71gb", "1c.3g.71gb", "3g.71gb"),
        ("MIG 1g.10gb+me", "1g.10gb+me", "1g.10gb+me"),
        ("MIG 1g.24gb+me.all", "1g.24gb+me.all", "1g.24gb+me.all"),
        ("MIG 2g.48gb-me", "2g.48gb-me", "2g.48gb-me"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition MIG 1g.24gb+gfx", "1g.24gb+gfx", "1g.24gb+gfx"),
    ],
)
def test_names_of_mig_devices(told: str, name: str, profile: str) -> None:
    assert mig_name_of(told) == name
    assert instance_profile_of(name) == profile


@pytest.mark.parametrize("told", ["NVIDIA A100-SXM4-40GB", "MIG", "MIG 1g", "MIG 1g.5gb; rm -rf", "", "XMIG 1g.5gb"])
def test_names_that_are_no_mig_devices(told: str) -> None:
    assert mig_name_of(told) is None


def test_identities_are_never_trimmed_into_others() -> None:
    good = "GPU-509665ad-b600-ac93-3616-d754b23d636d"
    assert uuid_of(good) == good
    for bad in ("", "MIG-509665ad", f"{good} ", f"{good}\n", "GPU-" + "a" * 200, 7, None):
        assert uuid_of(bad) is None
    assert mig_uuid_of("MIG-509665ad-b600-ac93-3616-d754b23d636d")
    assert mig_uuid_of("MIG-GPU-509665ad-b600-ac93-3616-d754b23d636d/7/0")
    assert mig_uuid_of("GPU-509665ad") is None


@pytest.mark.parametrize(
    ("kind", "member", "value"),
    [
        (pynvml.NVML_VALUE_TYPE_DOUBLE, "dVal", 1.5),
        (pynvml.NVML_VALUE_TYPE_UNSIGNED_INT, "uiVal", 2**32 - 2),
        (pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG, "ulVal", 2**40),
        (pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG, "ullVal", 2**52),
        (pynvml.NVML_VALUE_TYPE_SIGNED_LONG_LONG, "sllVal", -5),
        (pynvml.NVML_VALUE_TYPE_SIGNED_INT, "siVal", -7),
        (pynvml.NVML_VALUE_TYPE_UNSIGNED_SHORT, "usVal", 65535),
    ],
)
def test_every_type_of_field(kind: int, member: str, value: float) -> None:
    field = pynvml.c_nvmlFieldValue_t()
    ctypes.memset(ctypes.byref(field.value), 0xFF, ctypes.sizeof(field.value))  # what an earlier value left behind
    field.fieldId, field.valueType = 82, kind
    setattr(field.value, member, value)
    assert field_value(field) == value


def test_a_field_with_a_code_has_no_value() -> None:
    field = pynvml.c_nvmlFieldValue_t()
    field.fieldId, field.nvmlReturn = 82, pynvml.NVML_ERROR_NOT_SUPPORTED
    refused = field_value(field)
    assert isinstance(refused, Refusal)
    assert refused.kind is Kind.UNSUPPORTED
    assert refused.reason == "NVML_FI_DEV_MEMORY_TEMP: not supported"


def test_a_field_of_a_type_to_come() -> None:
    field = pynvml.c_nvmlFieldValue_t()
    field.fieldId, field.valueType = 9999, 77
    refused = field_value(field)
    assert isinstance(refused, Refusal)
    assert refused.reason == "field 9999 is of a type (77) that is not known here"


@given(st.text())
def test_no_name_breaks_the_readers(text: str) -> None:
    name = mig_name_of(text)
    assert name is None or text.endswith(name)
    assert uuid_of(text) in (None, text)
