"""Processors by name, with the figures of their data sheets."""

from __future__ import annotations

from dataclasses import dataclass

from seralign.errors import ConfigError

_GB, _TERA = 1e9, 1e12


@dataclass(frozen=True)
class Device:
    """A processor, most often a GPU.

    Args:
        name: As in ``--gpu``.
        flops: Peak rate of dense bfloat16 matrix products with float32 sums, in FLOP/s.
        memory: Bytes.
        bandwidth: Of its memory, in bytes/s.
        link: To the other GPUs of its node, one direction, in bytes/s.
        network: To GPUs of other nodes, one direction, in bytes/s for each GPU.
        per_node: GPUs of a node.
        logits: Elements of logits that the output layer holds at once (``seralign.policy.head``).
        kept: Elements of its derivatives that are kept for the backward pass.
        probabilities: Whether attention keeps its probabilities (``seralign.policy.attention`` on a CPU).
        foreach: Whether the optimizer works on all tensors at once, which takes more memory; on a CPU it does not.
    """

    name: str
    flops: float
    memory: float
    bandwidth: float
    link: float
    network: float
    per_node: int = 8
    logits: int = 64 * 2**20
    kept: int = 256 * 2**20
    probabilities: bool = False
    foreach: bool = True

    def between(self, count: int) -> float:
        """Bandwidth of a ring over ``count`` GPUs, in bytes/s: that of its slowest link."""
        return self.link if count <= self.per_node else min(self.link, self.network)


# Sources are in docs/planning.md. A link of PCIe 4.0 x16 has 32 GB/s in one direction. The networks of h100, h200 and
# a100 are those of NVIDIA's DGX systems (400 and 200 Gb/s a GPU); the others are assumed to have 100 Gb/s a GPU.
DEVICES: dict[str, Device] = {
    device.name: device
    for device in (
        Device("h100", 989.4 * _TERA, 80 * _GB, 3350 * _GB, 450 * _GB, 50 * _GB),
        Device("h200", 989.4 * _TERA, 141 * _GB, 4800 * _GB, 450 * _GB, 50 * _GB),
        Device("a100-80", 312 * _TERA, 80 * _GB, 2039 * _GB, 300 * _GB, 25 * _GB),
        Device("a100-40", 312 * _TERA, 40 * _GB, 1555 * _GB, 300 * _GB, 25 * _GB),
        Device("l40s", 362.05 * _TERA, 48 * _GB, 864 * _GB, 32 * _GB, 12.5 * _GB),
        Device("a10", 125 * _TERA, 24 * _GB, 600 * _GB, 32 * _GB, 12.5 * _GB),
        Device("rtx4090", 165.2 * _TERA, 24 * _GB, 1008 * _GB, 32 * _GB, 12.5 * _GB),
        Device("mi300x", 1307.4 * _TERA, 192 * _GB, 5300 * _GB, 448 * _GB, 50 * _GB),
    )
}


def device(name: str) -> Device:
    """The GPU of a name.

    Raises:
        ConfigError: the name is not in the table.
    """
    if name not in DEVICES:
        raise ConfigError(f"--gpu must be one of {', '.join(DEVICES)}, got {name!r}")
    return DEVICES[name]
