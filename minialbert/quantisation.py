"""A student in bytes: int8 files in which the one block stands once, and what runs them.

A weight is stored as a whole number n, and is n times the step (the scale) of its row.
model -> `quantise` -> a folder with model.onnx -> `OnnxModel` -> arrays (needs the extra "small")
model -> `round_weights` -> save_pretrained -> AutoModel, where this module has been imported
"""

import importlib
import inspect
import json
import logging
import tempfile
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

FILE = "model.onnx"
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
SAME = ("Transpose", "Cast", "Identity", "Reshape", "DequantizeLinear")  # of a weight: still it


def _package(name):
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"{error}: pip install 'minialbert[small]'") from None


@contextmanager
def _quiet():  # without the exporters' remarks on themselves
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(before)


class _Answer(nn.Module):
    """A model with one tensor as its output: logits, or last states where it has no head."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.names = [n for n in INPUTS if n in inspect.signature(model.forward).parameters]

    def forward(self, *inputs):
        output = self.model(**dict(zip(self.names, inputs, strict=True)))
        return output["logits"] if "logits" in output else output["last_hidden_state"]


def quantise(model, tokenizer, folder, *, int8=True, per_row=True, guard_bit=True) -> Path:
    """A model as a file for ONNX Runtime, batch and length free, its shared block stored once.

    Weights are rounded here; the states whenever a product meets them, each tensor by its own
    range. Products add up whole numbers; LayerNorm, softmax and GELU stay in fp32.

    Args:
        model: an encoder, or one with a classifier of sentences or of tokens; goes to eval mode.
        folder: gets model.onnx, config.json and the tokenizer's files; returned.
        int8: False: the same in fp32. per_row: a scale for each output, not one for a matrix.
        guard_bit: 7 bits a weight, so that the 16-bit sums of older processors cannot overflow.

    Raises ImportError: the extra is missing; ValueError: the model is not in fp32; RuntimeError: a
    product stayed in fp32, or the shared block stands more than once.
    """
    quantization, _ = _package("onnxruntime.quantization"), _package("onnxscript")
    if model.dtype != torch.float32:
        raise ValueError(f"its weights are {model.dtype}, not fp32: give model.float().")
    folder, answer = Path(folder), _Answer(model).eval()
    for part in (model.config, tokenizer):
        part.save_pretrained(folder)
    free = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
    graph = {"input_names": answer.names, "output_names": ["answer"], "external_data": False}
    graph["dynamic_shapes"] = ((free,) * len(answer.names),)
    example = tuple(torch.ones(2, 8, dtype=torch.long) for _ in answer.names)
    with tempfile.TemporaryDirectory() as aside, _quiet():
        raw, file = Path(aside, FILE), folder / FILE
        # optimize would fold a transpose into every use of a small weight: K copies of it
        torch.onnx.export(answer, example, raw, optimize=False, verbose=False, **graph)
        # K equal transposes of a weight become one, and that one is folded into the weight
        quantization.quant_pre_process(raw, file, skip_symbolic_shape=True)
        if int8:
            how = {"per_channel": per_row, "reduce_range": guard_bit}
            how["weight_type"] = quantization.QuantType.QInt8
            quantization.quantize_dynamic(file, file, **how)
    every, whole = products(folder)
    copies = copies_of_block(folder) if model.config.model_type == "minialbert" else 1
    if copies != 1 or int8 and whole < every:
        found = f"{whole} of {every} products in int8, the shared block {copies} times"
        raise RuntimeError(f"{folder} has {found}.")
    return folder


class OnnxModel:
    """A folder of `quantise`, run by ONNX Runtime; threads: None, as many as there are cores."""

    def __init__(self, folder, threads=None):
        runtime = _package("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        file, processor = Path(folder, FILE), ["CPUExecutionProvider"]
        self.session = runtime.InferenceSession(file, options, processor)
        self.names = [one.name for one in self.session.get_inputs()]

    def __call__(self, input_ids, attention_mask=None, token_type_ids=None) -> np.ndarray:
        """Logits (B, C), of a tagger (B, T, C), or last states (B, T, d), of word pieces (B, T)."""
        ids = np.asarray(input_ids)
        mask = np.ones_like(ids) if attention_mask is None else attention_mask
        types = np.zeros_like(ids) if token_type_ids is None else token_type_ids
        given = dict(zip(INPUTS, (ids, mask, types), strict=True))
        return self.session.run(None, {n: np.asarray(given[n], np.int64) for n in self.names})[0]


def products(folder) -> tuple[int, int]:
    """How many products with stored weights a folder's model.onnx has, and how many in int8."""
    graph, kinds = _package("onnx").load(Path(folder, FILE)).graph, []
    weights = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type in SAME and node.input[0] in weights:
            weights.update(node.output)
        elif node.op_type in ("MatMul", "Gemm", "MatMulInteger") and node.input[1] in weights:
            kinds.append(node.op_type)
    return len(kinds), kinds.count("MatMulInteger")


def copies_of_block(folder) -> int:
    """How often a block's matrices stand in a folder's model.onnx or safetensors: 1 of a shared
    block, L of a BERT of L layers."""
    config, shapes = json.loads(Path(folder, "config.json").read_text(encoding="utf8")), []
    for file in Path(folder).glob("*.safetensors"):
        shapes += [list(tensor.shape) for tensor in load_file(file).values()]
    if (file := Path(folder, FILE)).exists():
        shapes += [list(tensor.dims) for tensor in _package("onnx").load(file).graph.initializer]
    d, inner = config["hidden_size"], config["intermediate_size"]
    return sum(shape in ([d, inner], [inner, d]) for shape in shapes) // (2 if d != inner else 6)


class Rounded(nn.Module):
    """A linear layer, or a table, of int8 rows n (rows, columns) and their scales (rows,).

    A layer gives (x n^T) * scale + b; a table widens only the rows that are asked for.
    """

    def __init__(self, module):
        super().__init__()
        self.is_table, self.bias = isinstance(module, nn.Embedding), getattr(module, "bias", None)
        weight = module.weight.detach()
        self.register_buffer("scale", weight.abs().amax(1).clamp_min(1e-12) / 127)
        self.register_buffer("weight", (weight / self.scale[:, None]).round().to(torch.int8))

    def forward(self, x):
        if self.is_table:
            return self.weight[x] * self.scale[x, None]
        bias = 0 if self.bias is None else self.bias
        return F.linear(x, self.weight.to(x.dtype)) * self.scale + bias


def round_weights(model):
    """Rounds the linear layers and tables of an encoder, or a model with a classifier, in place,
    and returns it: save_pretrained writes bytes, from_pretrained reads them."""
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear | nn.Embedding):
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, Rounded(module))
    if hasattr(model, "save_pretrained"):  # it is no part of a model
        model.config.quantization_config = RowsConfig()
    return model


@register_quantization_config("rows_int8")
class RowsConfig(QuantizationConfigMixin):
    """What config.json says of a rounded model."""

    def __init__(self, quant_method="rows_int8"):
        self.quant_method = quant_method


@register_quantizer("rows_int8")
class RowsQuantizer(HfQuantizer):
    """Gives the library's loader a model with places for int8 rows."""

    requires_calibration, is_trainable = True, False  # no model is rounded while it is loaded

    def is_serializable(self):
        return True

    def _process_model_before_weight_loading(self, model, **_):
        round_weights(model)
