"""Rules by which schedulers pick a GPU and a start for one request, written anew from public descriptions."""

from benchmarks.mig_masks import Policy, Slots


def first_fit(slots: Slots) -> Policy:
    """The lowest GPU with room, the lowest start."""
    return Policy(slots=slots, rank=lambda mask: 0)


def best_fit(slots: Slots) -> Policy:
    """The fullest GPU with room, the lowest start."""
    return Policy(slots=slots, rank=slots.free)


def spread(slots: Slots) -> Policy:
    """The emptiest GPU, the lowest start: `distributed`, the default of the Kubernetes device plugin.

    NVIDIA/k8s-device-plugin, pull request 1621.
    """
    return Policy(slots=slots, rank=lambda mask: -slots.free(mask))


def hami(slots: Slots) -> Policy:
    """The fullest GPU with room, the start that leaves the largest free run, then the most placements.

    Project-HAMi/HAMi, pull request 2855.
    """
    return Policy(
        slots=slots,
        rank=slots.free,
        start_rank=lambda mask: (-slots.largest_free_run(mask), -slots.open_placements(mask)),
    )
