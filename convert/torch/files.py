"""Open the files that PyTorch writes, without running code from them unless that is asked for."""

from __future__ import annotations

import logging
import pickle
import zipfile
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeconv.convert.torch import pt2_guard, torchscript_guard
from edgeconv.convert.torch.checkpoints import module_in, weights_in, without_prefix
from edgeconv.convert.torch.pickle_guard import imported_by_file
from edgeconv.convert.torch.quiet import quiet
from edgeconv.core.errors import EdgeconvError, InvalidModel, UsageError
from edgeconv.core.sniff import Kind, kind_of, truncated
from edgeconv.core.wording import named
from edgeconv.toolchain.worker.limits import reading

if TYPE_CHECKING:
    import torch

_log = logging.getLogger(__name__)

_LISTED = 5
_SIMULATED = b"torch.ops.quantized_decomposed."


def load_exported_program(path: Path, *, trust_pickle: bool) -> torch.export.ExportedProgram:
    """Load a `torch.export` archive.

    Args:
        path: The archive.
        trust_pickle: Skip the scan for what would run code.

    Raises:
        InvalidModel: It is damaged, or this version of PyTorch cannot read it.
        UsageError: Loading it would run code, and it is not trusted.
    """
    import torch

    try:
        if not trust_pickle:
            with reading(path.stat().st_size, str(path)):
                _scan(path)
        import_module("torch._dynamo")  # loading needs it; the limits are those of the file alone
        with path.open("rb") as file, quiet():
            _define_operators(path)
            with reading(path.stat().st_size, str(path)):
                return torch.export.load(file)
    except pt2_guard.Refused as refused:
        raise UsageError(
            "loading this file would run code from it",
            where=str(path),
            why=str(refused),
            hint=f"if you trust its origin, give {named('trust_pickle', True)}",
        ) from refused
    except EdgeconvError:
        raise
    except Exception as error:
        # Whatever a damaged archive provokes in the deserializer.
        raise _damaged(path, "torch.export program", error) from error


def _scan(path: Path) -> None:
    """Scan with the reader that loads: two zip readers can see two contents in one file."""
    import torch

    if kind_of(path) is Kind.OLD_EXPORTED_PROGRAM:
        with zipfile.ZipFile(path) as archive:
            pt2_guard.scan_old(archive.namelist(), archive.read)
        return
    reader = torch._C.PyTorchFileReader(str(path))
    pt2_guard.scan(reader.get_all_records(), reader.get_record)


def _define_operators(path: Path) -> None:
    """Define the operators of simulated quantization, if a program has them: torch itself does not.

    PT2E quantization writes them.
    """
    import torch

    reader = torch._C.PyTorchFileReader(str(path))
    graphs = [name for name in reader.get_all_records() if name.endswith("model.json")]
    if any(_SIMULATED in reader.get_record(name) for name in graphs):
        import_module("torch.ao.quantization.fx._decomposed")


def load_torchscript(path: Path) -> torch.jit.ScriptModule:
    """Load a TorchScript archive, once all of its code has been judged.

    Raises:
        InvalidModel: It is damaged, or never ends.
        UsageError: Its code does more than to compute tensors.
    """
    import torch

    try:
        with quiet(), reading(path.stat().st_size, str(path)):
            torchscript_guard.judge(path)
            unit, module = torchscript_guard.compiled(path)
            torchscript_guard.judge_functions(unit.get_functions())
            loaded: torch.jit.ScriptModule = torch.jit._recursive.wrap_cpp_module(module)
    except torchscript_guard.Refused as refused:
        raise UsageError(
            "the TorchScript code in this file does more than to compute tensors",
            where=f"{path}, {refused.where}" if refused.where else str(path),
            why=str(refused),
            hint="nothing of it has run; no model needs that to infer. Export it again without, "
            "or do not trust this file",
        ) from refused
    except torchscript_guard.Endless as endless:
        raise InvalidModel(
            "the TorchScript code in this file never ends",
            where=f"{path}, {endless.where}",
            why="it has a loop whose condition always holds, and nothing leaves it",
            hint="let the loop end: give it a condition, a break or a return",
        ) from endless
    except EdgeconvError:
        raise
    except Exception as error:
        raise _damaged(path, "TorchScript archive", error) from error
    return loaded


def unpickle(path: Path, *, trust_pickle: bool) -> torch.nn.Module | dict[str, torch.Tensor]:
    """Return the module or the state dict that `torch.save` wrote.

    Args:
        path: The file, of either of torch.save's formats.
        trust_pickle: Unpickle what can run code.

    Raises:
        InvalidModel: It is damaged, or holds something else.
        UsageError: Unpickling it can run code, and it is not trusted.
    """
    import torch

    imported = imported_by_file(path)
    try:
        with reading(path.stat().st_size, str(path)):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except EdgeconvError:
        raise
    except pickle.UnpicklingError as error:
        if not trust_pickle:
            raise _needs_trust(path, imported) from error
        content = _unpickle_trusted(path)
    except Exception as error:
        raise _damaged(path, "torch.save file", error) from error
    if (module := module_in(content)) is not None:
        return module
    weights = weights_in(content)
    if weights is None:
        raise InvalidModel(
            f"the file holds a {type(content).__name__}, neither a module nor a state dict",
            where=str(path),
            why=_listing(content),
            hint="save model.state_dict(), or better: torch.export.save(torch.export.export(...))",
        )
    return weights


def _listing(content: Any) -> str:
    if not isinstance(content, Mapping):
        return ""
    return "it has " + (", ".join(map(repr, list(content)[:_LISTED])) or "nothing")


def _needs_trust(path: Path, imported: list[str]) -> UsageError:
    foreign = [name for name in imported if not name.startswith(("torch._utils.", "collections."))]
    return UsageError(
        "this is a pickle, and loading it runs code from the file",
        where=str(path),
        why=f"it imports {', '.join(foreign[:_LISTED])}" if foreign else "",
        hint=f"if you trust its origin, give {named('trust_pickle', True)}; better, save the "
        "model with "
        "torch.export.save",
    )


def _unpickle_trusted(path: Path) -> Any:
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=False)
    except (ImportError, AttributeError) as error:
        raise UsageError(
            "the classes of the pickled module cannot be imported",
            where=str(path),
            why=str(error).splitlines()[0],
            hint="run in the directory that the module's source is in, or install its package",
        ) from error
    except Exception as error:
        raise _damaged(path, "pickle", error) from error


def load_state_dict(
    module: torch.nn.Module, weights: Mapping[str, torch.Tensor], where: str, factory: str
) -> None:
    """Put weights into a module; every key must fit.

    Args:
        module: The module that the factory made; it is changed.
        weights: The state dict; a prefix that all names share is dropped.
        where: The file, for messages.
        factory: The factory, for messages.

    Raises:
        UsageError: Keys or shapes do not fit the module.
    """
    own = module.state_dict()
    weights = without_prefix(weights, own, where)
    problems = [f"missing {name}" for name in own if name not in weights]
    problems += [f"unexpected {name}" for name in weights if name not in own]
    problems += [
        f"{name} is {_shape(value)}, the model has {_shape(own[name])}"
        for name, value in weights.items()
        if name in own and own[name].shape != value.shape
    ]
    if problems:
        more = f" and {len(problems) - _LISTED} more" if len(problems) > _LISTED else ""
        raise UsageError(
            f"the state dict does not fit the model of {named('factory')} {factory}",
            where=where,
            why=", ".join(problems[:_LISTED]) + more,
            hint="the factory must build the very architecture that was saved",
            details="\n".join(problems),
        )
    module.load_state_dict(dict(weights))


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a scalar"


def _damaged(path: Path, kind: str, error: Exception) -> InvalidModel:
    import traceback

    result = truncated(path, kind)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return InvalidModel(
        f"the {kind} cannot be loaded",
        where=str(path),
        why=f"{type(error).__name__}: {lines[0][:200] if lines else 'no message'}",
        hint="it may be damaged, or made by another version of PyTorch: " + result.hint,
        details="".join(traceback.format_exception(error)),
    )
