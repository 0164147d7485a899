"""Slow, obvious NumPy: the whole Residual Attention U-Net of Chen et al. 2020 (Fig. 1), pixel by pixel, one slice.

Weights are a dictionary by the names of the network's state dict; arrays are (channels, height, width) in float64.
"""

import math

import numpy as np
import torch

from tests.reference.lsh_attention import attended_pairs, lsh_attention_reference

Weights = dict[str, np.ndarray]


def residual_attention_unet(
    image: np.ndarray, weights: Weights, levels: int, encoder: str, cardinality: int, attend: dict | None
) -> np.ndarray:
    """Logits (classes, H, W) of an image (1, H, W).

    Args:
        image: one slice.
        weights: of the network.
        levels: of the encoder.
        encoder: ``resnext`` or ``plain``.
        cardinality: paths of a ResNeXt block.
        attend: arguments of :func:`attention`; None leaves it out.
    """
    skips = []
    x = image
    for level in range(levels):
        x = x if level == 0 else max_pool(x)
        x = encode(x, weights, f"encoder.{level}", encoder, cardinality, has_stem=level == 0)
        skips.append(x)
    for stage, skip in enumerate(reversed(skips[:-1])):
        x = decode(x, skip, weights, f"decoder.{stage}", attend)
    return convolve(x, weights["output.conv.weight"], weights["output.conv.bias"])


def encode(x: np.ndarray, weights: Weights, name: str, encoder: str, cardinality: int, has_stem: bool) -> np.ndarray:
    """One level of the encoder."""
    if encoder == "plain":
        return double_convolution(x, weights, name)
    first = 0
    if has_stem:
        x = relu(normalised_convolution(x, weights, f"{name}.0"))
        first = 1
    for block in (first, first + 1):
        x = resnext_block(x, weights, f"{name}.{block}", cardinality)
    return x


def resnext_block(i: np.ndarray, weights: Weights, name: str, cardinality: int) -> np.ndarray:
    """``y = ReLU(F(i) + i)``, F = 1x1, grouped 3x3, 1x1; where the channels change the shortcut is a 1x1."""
    x = relu(normalised_convolution(i, weights, f"{name}.reduce"))
    x = relu(normalised_convolution(x, weights, f"{name}.grouped", groups=cardinality))
    x = normalised_convolution(x, weights, f"{name}.restore")
    shortcut = f"{name}.shortcut"
    return relu(x + (normalised_convolution(i, weights, shortcut) if f"{shortcut}.conv.weight" in weights else i))


def decode(x: np.ndarray, skip: np.ndarray, weights: Weights, name: str, attend: dict | None) -> np.ndarray:
    """Up to the skip's size, behind the skip, ``x + attention(x)``, two convolutions."""
    x = transposed_convolve(x, weights[f"{name}.up.conv.weight"], weights[f"{name}.up.conv.bias"])
    x = x[:, : skip.shape[1], : skip.shape[2]]  # of an odd level the last row and column are too many
    x = np.concatenate([skip, x])
    if attend is not None:
        x = x + attention(x, weights, f"{name}.attention", **attend)
    return double_convolution(x, weights, f"{name}.convolutions")


def attention(
    x: np.ndarray, weights: Weights, name: str, heads: int, rotations: dict[int, np.ndarray], bucket_size: int
) -> np.ndarray:
    """Attention among the pixels, row by row, of each head: LSH with the rotations of its width; full without any."""
    tokens = np.array([x[:, row, column] for row in range(x.shape[1]) for column in range(x.shape[2])])
    queries, values = tokens @ weights[f"{name}.to_qk.weight"].T, tokens @ weights[f"{name}.to_v.weight"].T
    width = tokens.shape[1] // heads
    attended = np.empty_like(tokens)
    for head in range(heads):
        own = slice(head * width, (head + 1) * width)
        q, v = torch.from_numpy(queries[:, own]), torch.from_numpy(values[:, own])
        if not rotations:
            seen, penalty = np.ones((len(q), len(q)), dtype=bool), 0.0
        else:
            buckets = hash_buckets(q.numpy(), rotations[width], bucket_size)
            seen, penalty = attended_pairs(buckets, 2 * bucket_size), 1e5
        attended[:, own] = lsh_attention_reference(q, v, torch.from_numpy(seen), penalty).numpy()
    out = attended @ weights[f"{name}.to_out.weight"].T + weights[f"{name}.to_out.bias"]
    return out.T.reshape(x.shape)


def hash_buckets(vectors: np.ndarray, rotations: np.ndarray, bucket_size: int) -> np.ndarray:
    """``argmax([xR; -xR])`` of each vector in each round, l / bucket_size buckets, an even number: (rounds, length)."""
    half = max(1, len(vectors) // (2 * bucket_size))
    buckets = np.empty((len(rotations), len(vectors)), dtype=int)
    for g, digits in enumerate(rotations):
        for i, vector in enumerate(vectors):
            turned = [sum(vector[d] * digits[0, d, n] for d in range(len(vector))) for n in range(half)]
            buckets[g, i] = int(np.argmax([*turned, *(-value for value in turned)]))
    return buckets


def double_convolution(x: np.ndarray, weights: Weights, name: str) -> np.ndarray:
    for part in (0, 1):
        x = relu(normalised_convolution(x, weights, f"{name}.{part}"))
    return x


def normalised_convolution(x: np.ndarray, weights: Weights, name: str, groups: int = 1) -> np.ndarray:
    """Convolution without bias, then instance normalisation."""
    x = convolve(x, weights[f"{name}.conv.weight"], None, groups)
    scale, shift = weights[f"{name}.adn.N.weight"], weights[f"{name}.adn.N.bias"]
    return np.stack(
        [(own - own.mean()) / math.sqrt(own.var() + 1e-5) * a + b for own, a, b in zip(x, scale, shift, strict=True)]
    )


def convolve(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray | None, groups: int = 1) -> np.ndarray:
    """Cross-correlation, zeros beyond the border, as large as its input; kernel (out, in / groups, k, k)."""
    given, taken, size, _ = kernel.shape
    border = size // 2
    padded = np.pad(x, [(0, 0), (border, border), (border, border)])
    result = np.zeros((given, *x.shape[1:]))
    for channel in range(given):
        group = channel // (given // groups)
        for row, column in np.ndindex(*x.shape[1:]):
            window = padded[group * taken : (group + 1) * taken, row : row + size, column : column + size]
            result[channel, row, column] = (window * kernel[channel]).sum() + (0 if bias is None else bias[channel])
    return result


def transposed_convolve(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Each pixel becomes 2 x 2; kernel (in, out, 2, 2)."""
    result = np.zeros((kernel.shape[1], 2 * x.shape[1], 2 * x.shape[2]))
    for channel, row, column in np.ndindex(*result.shape):
        weights = kernel[:, channel, row % 2, column % 2]
        result[channel, row, column] = (x[:, row // 2, column // 2] * weights).sum() + bias[channel]
    return result


def max_pool(x: np.ndarray) -> np.ndarray:
    """Largest of 2 x 2 pixels; an odd last row or column stands alone."""
    result = np.empty((len(x), -(-x.shape[1] // 2), -(-x.shape[2] // 2)))
    for channel, row, column in np.ndindex(*result.shape):
        result[channel, row, column] = x[channel, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].max()
    return result


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)
