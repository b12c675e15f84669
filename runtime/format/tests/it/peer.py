"""What the public `gguf` package sees in a file, one line a thing: `peer.py list FILE`, `peer.py make FILE`."""

import hashlib
import struct
import sys

import gguf
import numpy

NUMBERS = {
    "UINT8": "<B", "INT8": "<b", "UINT16": "<H", "INT16": "<h", "UINT32": "<I", "INT32": "<i",
    "FLOAT32": "<f", "BOOL": "<?", "UINT64": "<Q", "INT64": "<q", "FLOAT64": "<d",
}


def text(kind, value):
    """A value as the hexadecimal of its little-endian bytes; strings as UTF-8."""
    return (value.encode() if kind == "STRING" else struct.pack(NUMBERS[kind], value)).hex()


def show(path):
    reader = gguf.GGUFReader(path)
    for field in reader.fields.values():
        if field.name.startswith("GGUF."):  # the header, which the package lists as if it were metadata
            continue
        kinds = [kind.name for kind in field.types]
        value = field.contents()
        values = value if kinds[0] == "ARRAY" else [value]
        print("key", field.name, *kinds, *(text(kinds[-1], value) for value in values))
    for tensor in reader.tensors:
        # `shape` is in file order, innermost first.
        dims = ",".join(str(dim) for dim in tensor.shape)
        digest = hashlib.sha256(tensor.data.tobytes()).hexdigest()
        print("tensor", tensor.name, tensor.tensor_type.name, dims, digest)


def make(path):
    writer = gguf.GGUFWriter(path, "viseme-test")
    writer.add_uint8("u8", 200)
    writer.add_int16("i16", -3)
    writer.add_float64("f64", 0.1)
    writer.add_bool("yes", True)
    writer.add_array("words", ["one", "zwei", "três"])
    writer.add_array("numbers", [1, 2, 3])
    writer.add_tensor("matrix", numpy.arange(6, dtype=numpy.float32).reshape(2, 3))
    writer.add_tensor("bytes", numpy.arange(-5, 5, dtype=numpy.int8).reshape(5, 1, 2))
    writer.add_tensor("halves", numpy.linspace(0, 1, 7).astype(numpy.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    {"list": show, "make": make}[sys.argv[1]](sys.argv[2])
