"""Channel shuffles, splits and concatenations between convolutions come down to what is read."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from edgeconv.convert.passes.route_channels import route_channels

SIDE = 4


class Net:
    """A network of images [1, C, 4, 4] under construction, with random weights."""

    def __init__(self, seed: int = 0, opset: int = 21) -> None:
        self._random = np.random.default_rng(seed)
        self._opset = opset
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self.channels: dict[str, int] = {"x": 3}

    def constant(self, array: Any) -> str:
        name = f"k{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def weight(self, *shape: int) -> str:
        return self.constant(self._random.standard_normal(shape).astype(np.float32) / 2)

    def add(self, kind: str, inputs: list[str], *channels: int, **attributes: Any) -> list[str]:
        outputs = [f"v{len(self.channels) + n}" for n in range(len(channels))]
        self.channels |= dict(zip(outputs, channels, strict=True))
        self._nodes.append(helper.make_node(kind, inputs, outputs, **attributes))
        return outputs

    def conv(self, x: str, channels: int) -> str:
        inputs = [x, self.weight(channels, self.channels[x], 1, 1), self.weight(channels)]
        return self.add("Conv", inputs, channels)[0]

    def depthwise(self, x: str) -> str:
        count = self.channels[x]
        inputs = [x, self.weight(count, 1, 3, 3), self.weight(count)]
        return self.add("Conv", inputs, count, group=count, pads=[1] * 4)[0]

    def relu(self, x: str) -> str:
        return self.add("Relu", [x], self.channels[x])[0]

    def concat(self, *values: str) -> str:
        return self.add("Concat", list(values), sum(map(self.channels.get, values)), axis=1)[0]  # type: ignore[arg-type]

    def halves(self, x: str) -> list[str]:
        sizes = [self.channels[x] // 2, self.channels[x] - self.channels[x] // 2]
        if self._opset < 13:
            return self.add("Split", [x], *sizes, axis=1, split=sizes)
        return self.add("Split", [x, self.constant(np.array(sizes))], *sizes, axis=1)

    def shuffle(self, x: str, groups: int = 2) -> str:
        count = self.channels[x]
        five = self.constant(np.array([1, groups, count // groups, SIDE, SIDE]))
        four = self.constant(np.array([1, count, SIDE, SIDE]))
        (y,) = self.add("Reshape", [x, five], 0)
        (y,) = self.add("Transpose", [y], 0, perm=[0, 2, 1, 3, 4])
        return self.add("Reshape", [y, four], count)[0]

    def unit(self, x: str) -> str:
        """A unit of ShuffleNet V2."""
        kept, worked = self.halves(x)
        count = self.channels[worked]
        worked = self.conv(self.depthwise(self.relu(self.conv(worked, count))), count)
        return self.shuffle(self.concat(kept, self.relu(worked)))

    def model(self, *outputs: str) -> onnx.ModelProto:
        def image(name: str) -> onnx.ValueInfoProto:
            return helper.make_tensor_value_info(name, 1, [1, self.channels[name], SIDE, SIDE])

        graph = helper.make_graph(
            self._nodes, "g", [image("x")], [image(name) for name in outputs], self._constants
        )
        opsets = [helper.make_opsetid("", self._opset)]
        return onnx.shape_inference.infer_shapes(
            helper.make_model(graph, opset_imports=opsets, ir_version=10)
        )


def routed(proto: onnx.ModelProto) -> int:
    return route_channels(ir.from_proto(proto).graph)


@pytest.mark.parametrize("opset", [11, 21])
def test_units_of_shufflenet_v2(assert_parity: Any, opset: int) -> None:
    net = Net(opset=opset)
    x = net.concat(net.relu(net.conv("x", 5)), net.conv("x", 5))
    x = net.unit(net.unit(net.unit(net.shuffle(x))))
    parity = assert_parity(net.model(net.conv(x, 4)), rtol=1e-4, atol=1e-4)
    assert parity.count("TRANSPOSE") == parity.count("RESHAPE") == parity.count("GATHER") == 0
    joined = parity.count("CONCATENATION")
    cut = parity.count("SPLIT") + parity.count("SPLIT_V") + parity.count("STRIDED_SLICE")
    assert joined + cut <= 2 * 4


def test_a_shuffle_between_two_convolutions_is_only_weights(assert_parity: Any) -> None:
    net = Net()
    x = net.depthwise(net.shuffle(net.relu(net.conv("x", 6)), 3))
    pooled = net.add("MaxPool", [x], 6, kernel_shape=[3, 3], pads=[1] * 4)[0]
    parity = assert_parity(net.model(net.conv(pooled, 4)), rtol=1e-4, atol=1e-4)
    assert parity.operators == ("CONV_2D", "DEPTHWISE_CONV_2D", "MAX_POOL_2D", "CONV_2D")


def test_channels_that_must_keep_their_order_do(assert_parity: Any) -> None:
    net = Net()
    x = net.conv("x", 6)
    y = net.add("Add", [net.shuffle(x), x], 6)[0]
    assert routed(net.model(y)) == 0
    assert_parity(net.model(y), rtol=1e-4, atol=1e-4)


def test_nets_without_a_shuffle_are_left_alone() -> None:
    net = Net()
    a, b = net.halves(net.conv("x", 6))
    assert routed(net.model(net.conv(net.concat(b, a), 2))) == 0


def test_an_output_of_the_model_keeps_its_order(assert_parity: Any) -> None:
    net = Net()
    x = net.conv("x", 6)
    y = net.shuffle(x)
    proto = net.model(x, y, net.conv(y, 2))
    assert_parity(proto, rtol=1e-4, atol=1e-4)


@st.composite
def nets(draw: st.DrawFn) -> tuple[Net, str]:
    """Random nets of routes between convolutions, with readers that do and do not reorder."""
    net = Net(draw(st.integers(0, 2**16)))
    values = [net.conv("x", 2 * draw(st.integers(1, 4))), net.relu(net.conv("x", 4)), "x"]
    for _ in range(draw(st.integers(2, 8))):
        x = draw(st.sampled_from(values))
        step = draw(st.sampled_from(["shuffle", "shuffle", "halves", "concat", "read", "unit"]))
        even = net.channels[x] % 2 == 0
        if step == "shuffle" and even:
            values.append(net.shuffle(x))
        elif step == "unit" and even:
            values.append(net.unit(x))
        elif step == "halves" and even:
            values += net.halves(x)
        elif step == "concat":
            values.append(net.concat(x, draw(st.sampled_from(values))))
        elif step == "read":
            values.append(net.relu(net.depthwise(x) if draw(st.booleans()) else net.conv(x, 4)))
    last = [net.conv(value, 2) for value in values[-3:]]
    return net, net.add("Sum", last, 2)[0]


@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
@given(nets())
def test_random_nets(assert_any_layout: Any, made: tuple[Net, str]) -> None:
    net, y = made
    assert_any_layout(net.model(y), rtol=1e-3, atol=1e-3)
