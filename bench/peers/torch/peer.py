"""PyTorch: runs an exported ONNX file operation by operation, as PyTorch runs its own modules. Speaks the protocol of
bench/peers/protocol; what ONNX spells in two operations and PyTorch has as one (SiLU, a linear layer) is one here.
"""

import sys
import time

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper

torch.set_num_threads(1)


class Model:
    def __init__(self, path):
        graph = onnx.load(path).graph
        self.constants = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in graph.initializer}
        self.inputs = [i.name for i in graph.input]
        self.outputs = [o.name for o in graph.output]
        uses = {}
        for node in graph.node:
            for name in node.input:
                uses[name] = uses.get(name, 0) + 1
        self.steps = self.join(graph.node, uses)
        last = {}
        for at, (_, inputs, _) in enumerate(self.steps):
            for name in inputs:
                last[name] = at
        # Tensors that nothing needs any more.
        self.gone = [[] for _ in self.steps]
        for name, at in last.items():
            if name not in self.constants and name not in self.outputs:
                self.gone[at].append(name)

    def join(self, nodes, uses):
        makers = {output: node for node in nodes for output in node.output}
        joined, steps = set(), []
        for node in nodes:
            for name in node.input:
                maker = makers.get(name)
                if maker is None or uses[name] > 1:
                    continue
                if node.op_type == "Mul" and maker.op_type == "Sigmoid" and maker.input[0] in node.input:
                    joined.add(maker.output[0])
                if node.op_type == "Add" and maker.op_type == "MatMul" and maker.input[1] in self.constants:
                    joined.add(maker.output[0])
        for node in nodes:
            inputs, outputs = list(node.input), list(node.output)
            if outputs[0] in joined:
                continue
            inner = next((makers[name] for name in inputs if name in joined), None)
            if inner is None:
                steps.append((self.function(node), inputs, outputs))
            elif inner.op_type == "Sigmoid":
                steps.append((F.silu, [inner.input[0]], outputs))
            else:
                bias = next(name for name in inputs if name != inner.output[0])
                weight = self.constants[inner.input[1]].T.contiguous()
                bias = self.constants[bias]
                run = lambda x, weight=weight, bias=bias: F.linear(x, weight, bias)
                steps.append((run, [inner.input[0]], outputs))
                self.constants.pop(inner.input[1])
        return steps

    def function(self, node):
        a = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        kind, count = node.op_type, len(node.output)
        simple = {
            "Add": torch.add,
            "Mul": torch.mul,
            "MatMul": torch.matmul,
            "Sigmoid": torch.sigmoid,
            "Relu": torch.relu,
        }
        if kind in simple:
            return simple[kind]
        if kind == "Softmax":
            return lambda x: torch.softmax(x, a["axis"])
        if kind == "Split":
            return lambda x: torch.chunk(x, count, a["axis"])
        if kind == "Reshape":
            return lambda x, shape: x.reshape(shape.tolist())
        if kind == "Transpose":
            return lambda x: x.permute(*a["perm"])
        if kind == "Concat":
            return lambda *x: torch.cat(x, a["axis"])
        if kind == "ReduceMean":
            return lambda x: x.mean(a["axes"], bool(a["keepdims"]))
        if kind == "LayerNormalization":
            return lambda x, weight, bias: F.layer_norm(x, weight.shape, weight, bias, a["epsilon"])
        if kind == "MaxPool":
            return lambda x: F.max_pool2d(x, a["kernel_shape"], a["strides"], a["pads"][:2])
        if kind == "Slice":
            return cut
        if kind == "Conv":
            ends = a["pads"]
            half = len(ends) // 2
            assert ends[:half] == ends[half:]
            convolve = F.conv1d if half == 1 else F.conv2d
            strides, group = a.get("strides", [1] * half), a.get("group", 1)
            if half == 2:
                name = node.input[1]
                self.constants[name] = self.constants[name].contiguous(memory_format=torch.channels_last)
            return lambda x, weight, bias: convolve(x, weight, bias, strides, ends[:half], 1, group)
        raise ValueError(f"no operation {kind}")

    def run(self, values):
        known = dict(self.constants)
        known.update(zip(self.inputs, values))
        for (function, inputs, outputs), gone in zip(self.steps, self.gone):
            made = function(*[known[name] for name in inputs])
            known.update(zip(outputs, made if len(outputs) > 1 else [made]))
            for name in gone:
                known.pop(name, None)
        return [known[name] for name in self.outputs]


def cut(x, begin, end, axes):
    for first, last, axis in zip(begin.tolist(), end.tolist(), axes.tolist()):
        x = x.narrow(axis, first, last - first)
    return x


def peak():
    with open("/proc/self/status") as status:
        return next(line.split()[1] for line in status if line.startswith("VmHWM:"))


def answer(state, question):
    kind, *words = question.split("\t")
    if kind == "load":
        state["model"] = Model(words[0])
        return "ready"
    if kind == "prepare":
        shapes = [tuple(map(int, shape.split("x"))) for shape in words[2:]]
        if len(shapes) != 1:
            raise ValueError("only models with one input")
        state["inputs"] = [torch.from_numpy(np.fromfile(words[0], np.float32)).reshape(shapes[0])]
        return "ready"
    if kind == "run":
        times = []
        for _ in range(int(words[0])):
            start = time.perf_counter_ns()
            state["outputs"] = state["model"].run(state["inputs"])
            times.append(time.perf_counter_ns() - start)
        return " ".join(map(str, ["times", *times]))
    if kind == "output":
        values = state["model"].run(state["inputs"])[0].flatten().tolist()
        return " ".join(map(str, ["output", *values]))
    if kind == "rss":
        return f"rss {peak()}"
    raise ValueError(f"`{question}` is no question")


def main():
    state = {}
    with torch.inference_mode():
        for line in sys.stdin:
            try:
                print(answer(state, line.rstrip("\n")), flush=True)
            except Exception as error:
                print("error", " ".join(str(error).split()), flush=True)


main()
