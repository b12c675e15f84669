# Runs YuNet's ONNX file through onnxruntime, and FaceDetectorYN of OpenCV, on images.
#
# Arguments: model.onnx, images.bin, out.bin. images.bin: little-endian u32 count, then per image u32 width, height,
# longest side after shrinking, and BGR bytes. out.bin, all f32, per image: number of cells, cells x 16 (class,
# objectness, box, points of each cell, fine to coarse), number of faces, faces x 15 (as OpenCV lists them).
import sys

import cv2
import numpy as np
import onnxruntime

model, images, out = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
free_size = not isinstance(session.get_inputs()[0].shape[2], int)
data = open(images, "rb").read()
result = []
position = 4
for _ in range(np.frombuffer(data, "<u4", 1)[0]):
    width, height, longest = map(int, np.frombuffer(data, "<u4", 3, position))
    position += 12
    image = np.frombuffer(data, np.uint8, width * height * 3, position).reshape(height, width, 3)
    position += width * height * 3

    side = max(width, height)
    if side > longest:
        size = [max(1, (n * longest + side // 2) // side) for n in (width, height)]
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    h, w = image.shape[:2]
    padded = np.zeros(((h + 31) // 32 * 32, (w + 31) // 32 * 32, 3), np.uint8)
    padded[:h, :w] = image

    names = [f"{kind}_{stride}" for stride in (8, 16, 32) for kind in ("cls", "obj", "bbox", "kps")]
    if free_size or padded.shape[:2] == tuple(session.get_inputs()[0].shape[2:]):
        blob = padded.transpose(2, 0, 1)[None].astype(np.float32)
        outputs = [o[0] for o in session.run(names, {session.get_inputs()[0].name: blob})]
        cells = np.concatenate([np.concatenate(outputs[i : i + 4], axis=1) for i in (0, 4, 8)])
    else:
        cells = np.zeros((0, 16))
    result += [np.float32([len(cells)]), cells]

    detector = cv2.FaceDetectorYN.create(model, "", (w, h), 0.6, 0.3, 5000)
    faces = detector.detect(image)[1]
    faces = np.zeros((0, 15), np.float32) if faces is None else faces
    scale = np.float32([width / w, height / h] * 7 + [1])
    result += [np.float32([len(faces)]), faces * scale]

np.concatenate([np.asarray(r, "<f4").ravel() for r in result]).tofile(out)
