"""Runs exported models: python export_peer.py onnx|tflite FOLDER.

FOLDER/jobs.txt has a line for each: NAME run, or NAME stream CHUNK LEFT. Reads FOLDER/NAME.model and FOLDER/NAME.in
(f32: all inputs, or all frames of a stream), writes FOLDER/NAME.out (f32: the first output, of all chunks).
"""

import sys
from pathlib import Path

import numpy as np

HIDDEN = np.float32(-1e9)


def onnx(path):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    inputs = session.get_inputs()

    def run(values):
        return session.run(None, {i.name: v.reshape(i.shape) for i, v in zip(inputs, values)})

    return run, [tuple(i.shape) for i in inputs]


def tflite(path):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()

    def run(values):
        for i, v in zip(inputs, values):
            interpreter.set_tensor(i["index"], v.reshape(i["shape"]))
        interpreter.invoke()
        return [interpreter.get_tensor(o["index"]) for o in outputs]

    return run, [tuple(int(n) for n in i["shape"]) for i in inputs]


def stream(run, shapes, frames, chunk, left):
    """All chunks, each with the caches that the one before it returned."""
    caches = [np.zeros(shape, np.float32) for shape in shapes[1:-1]]
    logits = []
    for number, features in enumerate(frames.reshape(-1, *shapes[0])):
        mask = np.full(shapes[-1], HIDDEN)
        mask[..., left - min(left, number * chunk):] = 0
        first, *caches, _ = run([features, *caches, mask])
        logits.append(first)
    return np.concatenate(logits)


folder = Path(sys.argv[2])
for line in (folder / "jobs.txt").read_text().splitlines():
    name, kind, *sizes = line.split()
    run, shapes = {"onnx": onnx, "tflite": tflite}[sys.argv[1]](folder / f"{name}.model")
    values = np.fromfile(folder / f"{name}.in", np.float32)
    if kind == "stream":
        y = stream(run, shapes, values, *map(int, sizes))
    else:
        ends = np.cumsum([np.prod(shape, dtype=int) for shape in shapes])
        y = run(np.split(values, ends[:-1]))[0]
    y.astype(np.float32).tofile(folder / f"{name}.out")
