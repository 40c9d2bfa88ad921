"""How many multiply-adds one clip takes in a network.

Counted from the operations that the backend is given, not from a list of known
layers, so that a system of your own is counted like any other.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import keras
import numpy as np

# Operations that make no array: it is there already, perhaps in another shape.
GIVEN_OR_RENAMED = {
    *("Const", "Placeholder", "ReadVariableOp"),
    *("ExpandDims", "Identity", "Reshape", "Squeeze"),
    *("copy", "reshape", "squeeze"),
}


def count(model: keras.Model, frames: int) -> tuple[int, int]:
    """Return the multiply-adds of one clip, and the elements of the largest array.

    Matrix products, convolutions and Fourier transforms are counted; element-wise
    work, sums and averages are left out, as is usual.

    Args:
        model: From (batch, frames, coefficients) to probabilities.
        frames: Length of the clip.

    Raises:
        NotImplementedError: On a backend other than TensorFlow and JAX, or for a
            loop whose rounds are not known beforehand.
    """
    counters = {"tensorflow": _tensorflow, "jax": _jax}
    backend = keras.backend.backend()
    if backend not in counters:
        raise NotImplementedError(f"multiply-adds cannot be counted on {backend}")
    return counters[backend](model, (1, frames, model.input_shape[-1]))


def fourier_multiply_adds(points: int, real: bool) -> int:
    """Return the multiply-adds of a fast Fourier transform.

    The usual estimate is 5 n log2 n floating-point operations for n complex
    points, half of that for real ones; a multiply-add is two operations.
    """
    operations = 5 * points * math.log2(max(points, 2))
    return round(operations / (4 if real else 2))


def _size(shape) -> int:
    return math.prod(int(length) for length in shape)


# TensorFlow: the operations of the traced graph.


def _tensorflow(model: keras.Model, shape: tuple[int, ...]) -> tuple[int, int]:
    import tensorflow as tf

    clip = tf.TensorSpec(shape, tf.float32)
    traced = tf.function(lambda x: model(x, training=False))
    return _count_graph(traced.get_concrete_function(clip).graph)


def _count_graph(graph) -> tuple[int, int]:
    """Return multiply-adds and the elements of the largest array of a graph."""
    total, largest = 0, 0
    for operation in _needed(graph):
        inner, width = _count_inside(operation, graph)
        total += inner + _count_operation(operation)
        made = [] if operation.type in GIVEN_OR_RENAMED else operation.outputs
        sizes = [
            _size(out.shape)
            for out in made
            if out.dtype.is_floating and out.shape.is_fully_defined()
        ]
        largest = max(largest, width, *sizes, 0)
    return total, largest


def _needed(graph) -> list:
    """Return the operations that the outputs of a graph depend on.

    Tracing leaves others behind, which the backend never runs.
    """
    waiting = [tensor.op for tensor in graph.outputs]
    found = {}
    while waiting:
        operation = waiting.pop()
        if operation.name not in found:
            found[operation.name] = operation
            waiting += [tensor.op for tensor in operation.inputs]
    return list(found.values())


def _count_inside(operation, graph) -> tuple[int, int]:
    """Return what the functions cost that an operation calls."""
    rounds, called = 1, []
    if operation.type in ("While", "StatelessWhile"):
        rounds, called = _rounds(operation), ["body"]
    elif operation.type in ("PartitionedCall", "StatefulPartitionedCall"):
        called = ["f"]
    elif operation.type in ("If", "StatelessIf"):
        called = ["then_branch", "else_branch"]
    # A concrete function keeps the graphs of the functions that it calls.
    names = [operation.get_attr(attribute).name for attribute in called]
    counts = [_count_graph(graph._get_function(name).graph) for name in names]
    most, width = (max(values) for values in zip((0, 0), *counts, strict=True))
    return rounds * most, width


def _rounds(operation) -> int:
    """Return how often a loop goes round at most."""
    import tensorflow as tf

    bound = operation.inputs[1]
    # Keras wraps the number of frames in a maximum of one number.
    while bound.op.type == "Max" and bound.op.inputs[0].shape.rank == 0:
        bound = bound.op.inputs[0]
    value = tf.get_static_value(bound)
    if value is None or value < 0:
        raise NotImplementedError(f"{operation.name}: rounds are not known")
    return int(value)


def _count_operation(operation) -> int:
    """Return the multiply-adds of one operation of a TensorFlow graph."""
    kind = operation.type
    shapes = [tensor.shape for tensor in operation.inputs]
    if kind in ("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"):
        flag = "transpose_a" if kind == "MatMul" else "adj_x"
        inner = shapes[0][-2 if operation.get_attr(flag) else -1]
        factor = 4 if operation.outputs[0].dtype.is_complex else 1
        return factor * inner * _size(operation.outputs[0].shape)
    if kind in ("Conv1D", "Conv2D", "Conv3D"):  # kernel: (..., in / groups, out)
        return _size(operation.outputs[0].shape) * _size(shapes[1][:-1])
    if kind == "DepthwiseConv2dNative":
        return _size(operation.outputs[0].shape) * _size(shapes[1][:2])
    if kind == "Einsum":
        return _count_einsum(operation.get_attr("equation").decode(), shapes)
    if kind in ("RFFT", "IRFFT", "FFT", "IFFT"):
        real = kind in ("RFFT", "IRFFT")
        array = operation.outputs[0] if kind == "IRFFT" else operation.inputs[0]
        *rows, points = array.shape
        return _size(rows) * fourier_multiply_adds(points, real)
    if kind.startswith("CudnnRNN"):
        return _count_cudnn(operation, shapes)
    return 0


def _count_einsum(equation: str, shapes) -> int:
    terms = equation.split("->")[0].split(",")
    if len(terms) < 2:
        return 0
    lengths = {
        label: length
        for term, shape in zip(terms, shapes, strict=True)
        for label, length in zip(term, shape, strict=True)
    }
    return math.prod(lengths.values())


def _count_cudnn(operation, shapes) -> int:
    """Return the multiply-adds of a recurrent layer that a GPU runs as one."""
    steps, units = shapes[0][0], shapes[1][-1]
    gates = {b"gru": 3, b"lstm": 4}[operation.get_attr("rnn_mode")]
    # Every weight meets every step once; two biases a gate are only added.
    return steps * (_size(shapes[3]) - 2 * gates * units)


# JAX: the equations of the traced expression.


def _jax(model: keras.Model, shape: tuple[int, ...]) -> tuple[int, int]:
    import jax

    trainable = [variable.value for variable in model.trainable_variables]
    others = [variable.value for variable in model.non_trainable_variables]
    answer: Callable = lambda x: model.stateless_call(trainable, others, x)[0]  # noqa: E731
    clip = jax.ShapeDtypeStruct(shape, np.float32)
    return _count_equations(jax.make_jaxpr(answer)(clip).jaxpr)


def _count_equations(expression) -> tuple[int, int]:
    """Return multiply-adds and the elements of the largest array of a jaxpr."""
    total, largest = 0, 0
    for equation in expression.eqns:
        inner, width = _count_called(equation)
        total += inner + _count_equation(equation)
        renamed = equation.primitive.name in GIVEN_OR_RENAMED
        made = [] if renamed else [out.aval for out in equation.outvars]
        sizes = [_size(a.shape) for a in made if np.issubdtype(a.dtype, np.floating)]
        largest = max(largest, width, *sizes, 0)
    return total, largest


def _count_called(equation) -> tuple[int, int]:
    """Return what the expressions cost that an equation holds."""
    parameters, name = equation.params, equation.primitive.name
    if name == "while":
        raise NotImplementedError("a loop whose rounds are not known")
    values = list(parameters.get("branches", ())) + list(parameters.values())
    held = [getattr(value, "jaxpr", value) for value in values]
    counts = [_count_equations(value) for value in held if hasattr(value, "eqns")]
    most, width = (max(values) for values in zip((0, 0), *counts, strict=True))
    return most * (parameters["length"] if name == "scan" else 1), width


def _count_equation(equation) -> int:
    """Return the multiply-adds of one equation."""
    name, parameters = equation.primitive.name, equation.params
    shapes = [variable.aval.shape for variable in equation.invars]
    out = equation.outvars[0].aval
    if name == "dot_general":
        (contracted, _), _ = parameters["dimension_numbers"]
        inner = math.prod(shapes[0][axis] for axis in contracted)
        return (4 if np.iscomplexobj(out) else 1) * inner * _size(out.shape)
    if name == "conv_general_dilated":
        filters = shapes[1][parameters["dimension_numbers"].rhs_spec[0]]
        return _size(out.shape) * _size(shapes[1]) // filters
    if name == "fft":
        points = _size(parameters["fft_lengths"])
        kind = parameters["fft_type"].name
        array = out.shape if kind == "IRFFT" else shapes[0]
        real = kind in ("RFFT", "IRFFT")
        return _size(array) // points * fourier_multiply_adds(points, real)
    return 0
