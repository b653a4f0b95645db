"""Files of weights made without the libraries that others make them with."""

import json
import zipfile

import numpy as np

import minirnn

# NumPy's dtype -> what a safetensors file calls it.
NAMES = {"float64": "F64", "float32": "F32", "float16": "F16", "int64": "I64"}
STORAGES = {"float64": "DoubleStorage", "float32": "FloatStorage", "float16": "HalfStorage"}


def layer_of(kind, inputs=3, units=4, seed=0, **options):
    """A layer whose parameters a file is made of."""
    return {"lstm": minirnn.LSTM, "gru": minirnn.GRU, "rnn": minirnn.RNN}[kind](
        inputs, units, seed=seed, **options
    )


def safetensors_of(tensors, bfloat16=()):
    """The bytes of a safetensors file: 8 with the header's length, a JSON header, the numbers.

    bfloat16: names of tensors that are written as the upper halves of their float32.
    """
    header, parts, end = {}, [], 0
    for name, array in tensors.items():
        kind = NAMES.get(array.dtype.name)
        raw = array.tobytes()
        if name in bfloat16:
            kind, raw = "BF16", (array.view(np.uint32) >> 16).astype("<u2").tobytes()
        header[name] = {"dtype": kind, "shape": list(array.shape),
                        "data_offsets": [end, end + len(raw)]}  # fmt: skip
        parts.append(raw)
        end += len(raw)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + b"".join(parts)


def text(words):
    """Opcode of a pickle: a string."""
    coded = words.encode()
    return b"X" + len(coded).to_bytes(4, "little") + coded


def number(value):
    """Opcode of a pickle: an integer."""
    return b"J" + value.to_bytes(4, "little", signed=True)


def numbers(values):
    """Opcodes of a pickle: a tuple of integers."""
    return b"(" + b"".join(map(number, values)) + b"t"


def pickled_tensor(key, array):
    """Opcodes of the call that torch.save writes for a tensor whose storage is file `key`."""
    strides = [s // array.itemsize for s in array.strides]
    return b"".join([
        b"ctorch._utils\n_rebuild_tensor_v2\n", b"((", text("storage"),
        b"ctorch\n", STORAGES[array.dtype.name].encode(), b"\n", text(key), text("cpu"),
        number(array.size), b"tQ", number(0), numbers(array.shape), numbers(strides),
        b"\x89", b"ccollections\nOrderedDict\n)R", b"tR",
    ])  # fmt: skip


def write_pt(path, tensors, inside="model"):
    """Write what torch.save writes for {"epoch": 3, inside: tensors}."""
    items = [text(name) + pickled_tensor(str(i), a) for i, (name, a) in enumerate(tensors.items())]
    state = b"ccollections\nOrderedDict\n)R(" + b"".join(items) + b"u"
    body = b"\x80\x02}(" + text("epoch") + number(3) + text(inside) + state + b"u."
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", body)
        archive.writestr("archive/byteorder", "little")
        for i, array in enumerate(tensors.values()):
            archive.writestr(f"archive/data/{i}", array.tobytes())
