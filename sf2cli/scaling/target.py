"""The plan for a cluster that is not here: memory, step time and the largest head, by arithmetic.

The same model as the one checked against measurements on this machine, with rates from data
sheets; what the sheets do not say is assumed, and printed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sf2cli.heads.tile_size import OTHER_BYTES
from sf2cli.scaling.machines import Machine
from sf2cli.scaling.plan import BackboneCost, Budget, Platform, tile_rows
from sf2cli.scaling.step_time import Rates, StepTime, head_flops, step_time
from sf2cli.scaling.workload import VALUE_BYTES, HeadKind, Workload

PRODUCT_EFFICIENCY = 0.6
BACKBONE_EFFICIENCY = 0.4
MEMORY_EFFICIENCY = 0.8
LINK_EFFICIENCY = 0.7
INTRA_LATENCY_S = 20e-6
INTER_LATENCY_S = 50e-6
# A cosine is written and read, its gradient is written and read by two products.
PAIR_PASSES = 5
# That the head launches for a tile.
KERNELS_PER_TILE = 15
LAUNCH_S = 4e-6
# CUDA, NCCL, and what an allocator loses.
DEVICE_RESERVE_BYTES = 2 * 2**30


@dataclass(frozen=True)
class Cluster:
    """`hosts` equal hosts of a kind."""

    machine: Machine
    hosts: int

    @property
    def devices(self) -> int:
        """GPUs in all."""
        return self.machine.devices_per_host * self.hosts

    @property
    def name(self) -> str:
        """What tables call it."""
        hosts = f"{self.hosts} hosts of " if self.hosts > 1 else ""
        return f"{hosts}{self.machine.devices_per_host} x {self.machine.name}"

    @property
    def budget(self) -> Budget:
        """The memory of each device."""
        return Budget(int(self.machine.memory_gb * 10**9), shared=False)

    @staticmethod
    def platform(zero_stage: int) -> Platform:
        """Its devices, as far as memory goes."""
        return Platform(DEVICE_RESERVE_BYTES, on_cpu=False, zero_stage=zero_stage)


@dataclass(frozen=True)
class Speed:
    """How fast a SphereFace2 head trains on a cluster.

    Attributes:
        of_peak: the time that head and backbone would take at the dense peaks / step.
        without_links: step on links without cost / step: what is left of perfect scaling when
            every device keeps the same number of identities.
    """

    step: StepTime
    samples_per_s: float
    of_peak: float
    without_links: float

    def as_json(self) -> dict[str, Any]:
        """For target.json."""
        return {**asdict(self), "step": {**asdict(self.step), "total": self.step.total}}


def target_speed(
    head: HeadKind,
    num_ids: int,
    workload: Workload,
    cluster: Cluster,
    backbone: BackboneCost | None,
    zero_stage: int,
) -> Speed:
    """The speed of a SphereFace2 head; `workload.nproc` is the cluster's number of devices."""
    rates = cluster_rates(head, workload, cluster, backbone)
    step = step_time(
        head, num_ids, workload, rates, reduced_bytes=_reduced_bytes(backbone, zero_stage)
    )
    ideal = head_flops(head, num_ids, workload) / _dense_peak(cluster.machine, head)
    if backbone is not None:
        flops = 3 * backbone.forward_flops * workload.batch_size
        ideal += flops / _backbone_peak(cluster.machine)
    return Speed(
        step=step,
        samples_per_s=workload.batch_size / step.total,
        of_peak=ideal / cluster.devices / step.total,
        without_links=1 - step.communication / step.total,
    )


def cluster_rates(
    head: HeadKind, workload: Workload, cluster: Cluster, backbone: BackboneCost | None
) -> Rates:
    """What one device of the cluster reaches, under the assumptions."""
    machine = cluster.machine
    memory_rate = machine.memory_gb_per_s * 1e9 * MEMORY_EFFICIENCY
    devices = cluster.devices
    slowest = machine.inter_gb_per_s if cluster.hosts > 1 else machine.intra_gb_per_s
    # A ring moves all but a device's own part over the slowest link.
    link = slowest * 1e9 * LINK_EFFICIENCY * devices / max(1, devices - 1)
    latency = INTER_LATENCY_S if cluster.hosts > 1 else INTRA_LATENCY_S
    backbone_s = 0.0
    if backbone is not None:
        images = workload.batch_size // workload.nproc
        rate = _backbone_peak(machine) * BACKBONE_EFFICIENCY
        backbone_s = 3 * backbone.forward_flops * images / rate
    return Rates(
        product_flops=_dense_peak(machine, head) * PRODUCT_EFFICIENCY,
        pairs=memory_rate / PAIR_PASSES / VALUE_BYTES[head.storage],
        update=memory_rate,
        latency=latency,
        link=link,
        tile_rows=tile_rows(head, workload, cluster.platform(zero_stage=0)),
        dispatch=KERNELS_PER_TILE * LAUNCH_S,
        backbone=backbone_s,
        is_gpu=True,
    )


def assumptions(cluster: Cluster, zero_stage: int | None) -> list[str]:
    """What the plan rests on, a line each; `zero_stage` is None without a backbone."""
    m = cluster.machine
    bf16 = "no bf16 units" if m.bf16_tflops is None else f"bf16 {m.bf16_tflops:g} TFLOP/s dense"
    lines = [
        f"a device: {m.memory_gb:g} GB at {m.memory_gb_per_s:g} GB/s, fp32 {m.fp32_tflops:g}"
        f" TFLOP/s, {bf16}; links one way {m.intra_gb_per_s:g} GB/s within a host,"
        f" {m.inter_gb_per_s:g} GB/s between hosts",
        f"reached: {PRODUCT_EFFICIENCY:.0%} of the peak in the head's products,"
        f" {MEMORY_EFFICIENCY:.0%} of memory, {LINK_EFFICIENCY:.0%} of the slowest link, which a"
        " ring runs at; nothing overlaps",
        "products: bf16 with bf16 storage where the device has units for it, else fp32, no TF32",
        f"element-wise: {PAIR_PASSES} passes over the [B, shard] cosines in device memory; rows are"
        " read twice, their gradient is written and read",
        f"dispatch: {KERNELS_PER_TILE} kernels a tile of {OTHER_BYTES >> 20} MiB,"
        f" {LAUNCH_S * 1e6:g} us each where they do not hide behind one another",
        f"latency: {INTRA_LATENCY_S * 1e6:g} us a collective within a host,"
        f" {INTER_LATENCY_S * 1e6:g} us between hosts",
        f"memory: {DEVICE_RESERVE_BYTES / 2**30:g} GiB of each device for CUDA, NCCL and"
        " fragmentation",
    ]
    if zero_stage is not None:
        lines.append(
            f"backbone: {BACKBONE_EFFICIENCY:.0%} of the bf16 peak, ZeRO stage {zero_stage}, fp32"
            " gradients sent after the backward pass; activations are an estimate in fp32"
        )
    return lines


def _dense_peak(machine: Machine, head: HeadKind) -> float:
    if head.storage == "bf16" and machine.bf16_tflops is not None:
        return machine.bf16_tflops * 1e12
    return machine.fp32_tflops * 1e12


def _backbone_peak(machine: Machine) -> float:
    return (machine.bf16_tflops or machine.fp32_tflops) * 1e12


def _reduced_bytes(backbone: BackboneCost | None, zero_stage: int) -> float:
    """An all-reduce is a reduce-scatter and an all-gather; stage 3 gathers parameters twice."""
    if backbone is None:
        return 0.0
    return 4.0 * backbone.parameters * (3 if zero_stage == 3 else 2)
