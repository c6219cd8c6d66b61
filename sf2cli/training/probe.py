"""What hooks on a backbone see of a step: gradient norm, and samples that are not finite."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sf2cli.training.engine import TrainingEngine


class Probe:
    """Watches one engine's backbone; `begin` before each step."""

    def __init__(self, engine: TrainingEngine) -> None:
        self._engine = engine
        self._sound: list[tuple[Tensor, list[Tensor]]] = []
        self._squares: Tensor | None = None
        engine.backbone.register_forward_hook(self._see_features)
        optimizer = engine.deepspeed.optimizer
        if isinstance(optimizer, torch.optim.Optimizer):
            # Under ZeRO 0 DeepSpeed takes no norm; its gradients are whole and averaged here.
            optimizer.register_step_pre_hook(self._see_gradients)

    def begin(self) -> None:
        """Forget the last step."""
        self._sound = []
        self._squares = None

    def gradient_norm(self) -> float | None:
        """The 2-norm of the backbone's gradient in the last step, the same on every rank; None
        where neither DeepSpeed nor its optimiser shows it."""
        if self._engine.gradient_norms is not None:
            return self._engine.gradient_norms.backbone
        if self._squares is not None:
            return self._squares.sqrt().item()
        found = self._engine.deepspeed.get_global_grad_norm()
        return None if found is None else float(found)

    def unsound_samples(self) -> list[int]:
        """The rows of this rank's batch whose features, or gradients by them, are not finite."""
        places, passed = [], 0
        for features, gradients in self._sound:
            sound = features
            for gradient in gradients:
                sound = sound & gradient
            places += (passed + (~sound).nonzero().flatten()).tolist()
            passed += len(features)
        return places

    def _see_features(self, _: nn.Module, __: Any, features: Tensor) -> None:
        if not features.requires_grad:
            return
        gradients: list[Tensor] = []
        self._sound.append((_finite_rows(features), gradients))
        features.register_hook(lambda gradient: gradients.append(_finite_rows(gradient)))

    def _see_gradients(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        parameters = (p for group in optimizer.param_groups for p in group["params"])
        gradients = [p.grad for p in parameters if p.grad is not None]
        if gradients:
            self._squares = sum_of_squares(gradients)


def sum_of_squares(tensors: list[Tensor]) -> Tensor:
    """Of all their elements, a float64 scalar."""
    plain = [tensor.detach() for tensor in tensors]
    squares = torch.stack(torch._foreach_norm(plain)).double().square().sum()
    if squares.isfinite():
        return squares
    # In float32 the squares of finite numbers overflow; float64 is several times slower.
    return torch.stack(torch._foreach_norm(plain, 2, dtype=torch.float64)).square().sum()


def _finite_rows(rows: Tensor) -> Tensor:
    return rows.detach().isfinite().flatten(1).all(1)
