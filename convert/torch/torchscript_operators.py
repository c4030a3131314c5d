"""What the compiled code of a TorchScript archive may do: compute tensors, and no more.

Its operators are those of `edgeconv.convert.torch.pt2_operators`, and what TorchScript adds to them
for numbers, strings, lists and dictionaries. A test compares the list with the registry of the
installed torch.
"""

from __future__ import annotations

import re

from edgeconv.convert.torch.pt2_operators import REFUSED as REFUSED_IN_PROGRAMS
from edgeconv.convert.torch.pt2_operators import listed

REFUSED = REFUSED_IN_PROGRAMS | {
    "aten::save": "writes a file",
    "aten::backward": "calls autograd",
    "aten::grad": "calls autograd",
    "aten::dist_backward": "calls autograd on other machines",
    "aten::confirmed_by_owner": "calls another machine",
    "aten::is_owner": "calls another machine",
    "aten::local_value": "calls another machine",
    "aten::owner": "calls another machine",
    "aten::owner_name": "calls another machine",
    "aten::to_here": "calls another machine",
    "aten::Generator": "draws from a generator of its own",
    "aten::initial_seed": "reads the seed of the process",
    "aten::manual_seed": "seeds the process",
    "aten::seed": "seeds the process",
    "aten::_get_cpu_capability": "asks for the processor",
}
"""Operators of the namespace ``aten`` that do more than to compute, and what."""

_LANGUAGE = frozenset(
    re.findall(
        r"\w+",
        """
        Bool Complex ComplexImplicit Delete Float FloatImplicit Int IntImplicit ScalarImplicit
        Size __contains__ __derive_index __getitem__ __interpolate __is__ __isnot__ __not__
        __range_length __round_to_zero_floordiv __upsample __upsample_bilinear
        __upsample_nearest _get_tracing_state _grad_sum_to_size _infer_size _list_to_tensor
        _ncf_unsqueeze _ncf_view _no_grad_embedding_renorm_ _no_grad_fill_ _no_grad_normal_
        _no_grad_uniform_ _no_grad_zero_ _pack_sequence _set_item _size_if_not_equal
        _tensor_to_list _unwrap_optional append as_tensor bin broadcast_shapes capitalize center
        chr clear count cpu cuda degrees device dict divmod element_size endswith expandtabs
        extend fabs factorial find floordiv format gamma get get_autocast_dtype
        has_torch_function hash hex insert is_autocast_cpu_enabled is_autocast_enabled
        is_grad_enabled is_non_overlapping_and_dense is_scripting is_strides_like_format isalnum
        isalpha isdecimal isdigit isidentifier islower isnumeric isprintable isspace istitle
        isupper items join keys len list ljust lower lstrip mathremainder modf oct ord partition
        percentFormat pop popitem radians remove replace reverse rfind rindex rjust rpartition
        rsplit rstrip set_grad_enabled setdefault sorted splitlines startswith str strip
        swapcase tensor title update upper wait warn zfill
        """,
    )
)
# What `torch.jit.save` can write of the language itself; what optimisers put in is never saved.
_SYNTAX = frozenset(
    re.findall(
        r"\w+",
        """
        AutogradZero AutogradAdd AutogradAnyNonZero AutogradAllNonZero AutogradAllZero
        CallFunction CallMethod Closure Constant ConstantChunk CreateObject DictConstruct Enter
        EnumName EnumValue Exit Function GetAttr If IfThenElse Interface ListConstruct
        ListUnpack Loop ModuleContainerIndex NumToTensor RaiseException SetAttr StringIndex
        TupleConstruct TupleIndex TupleSlice TupleUnpack Uninitialized VarConcat VarStack abs
        awaitable awaitable_nowait awaitable_wait data device dtype fork grad id index is_cpu
        is_cuda is_ipu is_maia is_meta is_mkldnn is_mps is_mtia is_nested is_quantized is_sparse
        is_sparse_csr is_vulkan is_xla is_xpu isinstance itemsize layout max min name nbytes
        rangelist requires_grad tolist type unchecked_cast unchecked_unwrap_optional
        """,
    )
)
_TORCHVISION = frozenset(
    {"deform_conv2d", "nms", "ps_roi_align", "ps_roi_pool", "roi_align", "roi_pool"}
)
# Classes that hold packed weights; others talk to machines and devices.
_CLASSES = ("quantized", "rnn")


def is_known(kind: str) -> bool:
    """Tell whether compiled code may have a node of this kind, such as ``aten::add``."""
    namespace, _, name = kind.partition("::")
    own = {"prim": _SYNTAX, "torchvision": _TORCHVISION}
    if namespace in own:
        return name in own[namespace]
    return kind in listed() or (namespace == "aten" and name in _LANGUAGE)


def is_known_class(namespace: str) -> bool:
    """Tell whether an archive may hold objects of the C++ classes ``torch.classes.<namespace>``."""
    return namespace in _CLASSES
