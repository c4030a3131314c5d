"""Import modules when something of them is used, not when they are named.

The TensorFlow package imports all of its public interface: Keras of old, data services, distributed
training, the interface of version 1. Converting and running models needs a small part. Here the
modules of the interface, and a few others that are imported for nothing, stay empty until somebody
asks them for a name: that takes a third off the worker's time and a sixth off its memory.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_PREFIX = "tensorflow._api.v2."
_MODULES = (
    "tensorflow.python.keras",
    "tensorflow.python.keras.layers",
    # For shapes with names for sizes, which translating a graph does not compute with.
    "sympy",
    "onnx_ir._symbolic_shapes",
)
# `tf.nn` names these classes, which nothing here uses; the module would bring all of old Keras.
_LEFT_OUT = {
    "tensorflow.python.keras.layers.rnn_cell_wrapper_v2": (
        "DeviceWrapper",
        "DropoutWrapper",
        "ResidualWrapper",
    )
}


def defer_tensorflow() -> None:
    """Defer what `import tensorflow` imports without need; for a process that only converts.

    ``tf.lite`` is then the package of that name, not the public interface: what is needed of it
    is to be imported from where it is defined.
    """
    if "tensorflow" not in sys.modules:
        sys.meta_path.insert(0, Deferring((_PREFIX,), _MODULES, _LEFT_OUT))


class Deferring(MetaPathFinder):
    """Finds modules whose code runs when the first of their names is asked for.

    Args:
        prefixes: What the names of such modules begin with.
        modules: Names of others.
        left_out: Modules that are not run at all, with the names that they have: each is `None`.
    """

    def __init__(
        self,
        prefixes: tuple[str, ...],
        modules: Collection[str] = (),
        left_out: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        self._prefixes = prefixes
        self._modules = frozenset(modules)
        self._left_out = left_out or {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find one of these modules; others are left to Python."""
        if fullname in self._left_out:
            return ModuleSpec(fullname, _Nothing(self._left_out[fullname]))
        if fullname not in self._modules and not fullname.startswith(self._prefixes):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Deferred(spec.loader)
        return spec


class _Module(ModuleType):
    """A module whose code has not run.

    `importlib.util.LazyLoader` runs it when anything is asked for, `__file__` too, which `inspect`
    asks every module for.
    """

    def __getattr__(self, name: str) -> Any:
        spec = self.__spec__
        if (name.startswith("__") and name.endswith("__")) or spec is None:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        assert isinstance(spec.loader, _Deferred)
        loader = spec.loader.loader
        self.__class__ = ModuleType  # type: ignore[assignment]  # it is one from here on
        spec.loader = self.__loader__ = loader
        loader.exec_module(self)
        return getattr(self, name)


class _Deferred(Loader):
    """Makes modules whose code another loader runs later."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return a module that runs itself when it is needed."""
        return _Module(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Leave that to the module."""


class _Nothing(Loader):
    """Makes modules in which each name is `None`."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names

    def create_module(self, spec: ModuleSpec) -> None:
        """Let Python make a module."""

    def exec_module(self, module: ModuleType) -> None:
        """Give it its names."""
        vars(module).update(dict.fromkeys(self._names))
