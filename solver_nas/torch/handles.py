"""A vertex of a traced module, as the caller holds it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from solver_nas.frontend import Handle

if TYPE_CHECKING:
    import torch

    from solver_nas.torch.model import TorchModel


class TorchHandle(Handle):
    """A handle that also knows the module and the parameters behind a vertex, for utilities of the user's own.

    Utilities are asked of all vertices that carry the neurons, also of those without weights.

    >>> # def utility(v): return 0 if v.weight is None else v.weight.abs().sum((1, 2, 3))
    >>> # delta_nout(model["conv1"], -8, utility=utility)
    """

    @property
    def _model_of_torch(self) -> TorchModel:
        model = self.model
        assert hasattr(model, "tensors"), "handles of this class are made by traced modules"
        return model  # type: ignore[return-value] # asserted

    @property
    def module(self) -> torch.nn.Module:
        """The innermost module that the vertex's operation was called in.

        Raises:
            GraphError: changes are not written into a module.
        """
        return self._model_of_torch.module.get_submodule(str(self.vertex.attributes.get("module", "")))

    @property
    def weight(self) -> torch.Tensor | None:
        """The weight of the vertex as it is now, without gradient; `None` if it has none.

        That is the parameter in the role `weight`, or the largest one; or the weight that is computed from parameters,
        as with parametrizations.
        """
        computed = self._model_of_torch.computed_weight(self.name)
        roles = self.vertex.parameters
        if computed is not None or not roles:
            return computed
        tensors = self._model_of_torch.tensors
        owned = {role: tensors[parameter.key] for role, parameter in roles.items()}
        return owned["weight"] if "weight" in owned else max(owned.values(), key=lambda tensor: tensor.numel())
