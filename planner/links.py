"""How one thing was linked to another, and how sure that is: the reasons of the join, strongest first."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Certainty(StrEnum):
    """How sure a link is; a chain of links is as sure as its weakest."""

    CERTAIN = "certain"  # both sides name the same thing, or the one that decides it says so
    LIKELY = "likely"  # follows from what is known, if nothing unusual is set up
    GUESSED = "guessed"  # fits, and something else may fit as well

    @property
    def rank(self) -> int:
        """0 for the surest."""
        return list(Certainty).index(self)


def weakest(certainties: Iterable[Certainty]) -> Certainty:
    """The certainty of a chain; of an empty one, certain."""
    return max(certainties, key=lambda one: one.rank, default=Certainty.CERTAIN)


class LinkReason(StrEnum):
    """What a link rests on; within one hop, an earlier reason is taken before a later one."""

    # a device and the pod on it
    POD_UID = "the uid of the pod is reported for the device"
    POD_NAME = "the name of the pod is reported for the device"
    CLAIM_MIG_UUID = "a resource claim of the pod holds this MIG device"
    CLAIM_UUID = "a resource claim of the pod holds the GPU with this UUID"
    CLAIM_PCI = "a resource claim of the pod holds the GPU at this PCI address"
    CLAIM_PROFILE = "a resource claim of the pod holds the only instance of this profile on the GPU"
    ALL_OF_NODE = "the only pod with GPUs on the node asks for all of its devices"
    POD_NAME_OF_BEFORE = "the name of the pod is reported for the device, with the uid of an earlier pod"
    # a server and the devices it uses, without a pod between them
    SERVER_MIG_UUID = "the server's own settings or the configuration name this MIG device"
    SERVER_GPU_UUID = "the server's own settings or the configuration name this GPU"
    ONLY_DEVICE = "it is the only device of the server's machine"
    # a server and the pod it runs in
    SERVER_POD = "discovery names the pod of the server"
    SERVER_POD_IP = "discovery names the pod's address"
    ENDPOINT_POD_IP = "the server is read at the pod's address"
    ENDPOINT_POD_DNS = "the server is read at the pod's name in DNS"
    ENDPOINT_PATH = "the path under which the server is read names the pod"
    ENDPOINT_HOST_NETWORK = "the server is read at the node's address, in whose network only this pod with GPUs is"
    ENDPOINT_SERVICE = "the server is read at a name that only this pod with GPUs belongs to"
    ENDPOINT_NODE = "the server is read at the node's address, on which only this pod with GPUs runs"
    SAME_PORT = "the same kind of engine is read at this port of the pod"
    # a model as a gateway names it, and as a server does
    ALIAS = "the configuration says that both are one model"
    SAME_NAME = "both names are the same"
    SAME_TAG = "both names are the same but for Ollama's tag :latest"
    WITHOUT_PROVIDER = "both names are the same but for the gateway's prefix"
    SAME_ROOT = "the name is that of the checkpoint which is served under another name"
    SAME_LETTERS = "both names are the same but for case and punctuation"
    LAST_PART = "the last parts of both names are the same"

    @property
    def certainty(self) -> Certainty:
        """How sure a link is that rests on this alone."""
        if self in _GUESSED:
            return Certainty.GUESSED
        return Certainty.LIKELY if self in _LIKELY else Certainty.CERTAIN

    @property
    def strength(self) -> tuple[int, int]:
        """The smaller, the stronger."""
        return self.certainty.rank, list(LinkReason).index(self)


_GUESSED = frozenset(
    {LinkReason.ONLY_DEVICE, LinkReason.ENDPOINT_SERVICE, LinkReason.ENDPOINT_NODE, LinkReason.LAST_PART}
)
_LIKELY = frozenset(
    {
        LinkReason.CLAIM_PROFILE,
        LinkReason.ALL_OF_NODE,
        LinkReason.POD_NAME_OF_BEFORE,
        LinkReason.ENDPOINT_POD_DNS,
        LinkReason.ENDPOINT_PATH,
        LinkReason.ENDPOINT_HOST_NETWORK,
        LinkReason.WITHOUT_PROVIDER,
        LinkReason.SAME_ROOT,
        LinkReason.SAME_LETTERS,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Link:
    """One link: `source` and `target` are names for people.

    `is_contradicted` says that another one of the same certainty points elsewhere; then it is a guess.
    """

    source: str
    target: str
    reason: LinkReason
    is_contradicted: bool = False

    @property
    def certainty(self) -> Certainty:
        """How sure it is."""
        return Certainty.GUESSED if self.is_contradicted else self.reason.certainty

    @property
    def sentence(self) -> str:
        """What is linked and why."""
        but = "; something else says otherwise" if self.is_contradicted else ""
        return f"{self.source} and {self.target}: {self.reason.value}{but} ({self.certainty.value})."


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Conflict:
    """Links of one thing that contradict each other, strongest first, and what was made of it."""

    subject: str
    links: tuple[Link, ...]
    outcome: str

    @property
    def sentence(self) -> str:
        """What contradicts what."""
        said = "; ".join(f"{link.target} ({link.reason.value})" for link in self.links)
        return f"{self.subject} is linked to {said}. {self.outcome}"
