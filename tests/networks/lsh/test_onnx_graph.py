import pytest
import torch
from custom_components.networks.lsh.hashing import bucket_factors, hash_vectors, number_of_buckets, random_rotations
from custom_components.networks.lsh.onnx_graph import bucket_digits, hash_in_graph, lsh_attention_graph
from custom_components.networks.lsh.rounds import lsh_attention
from hypothesis import given
from hypothesis import strategies as st

DIRECT_AND_TWO_DIGITS = [1, 3, 8, 37, 300, 1100]


@given(length=st.integers(1, 2_000_000), bucket_size=st.integers(1, 100))
def test_the_digits_are_those_of_the_hash(length, bucket_size):
    expected = bucket_factors(number_of_buckets(length, bucket_size))
    assert tuple(digit.item() for digit in bucket_digits(length, bucket_size)) == expected


@pytest.mark.parametrize("length", DIRECT_AND_TWO_DIGITS)
@pytest.mark.parametrize("num_rounds", [1, 3])
def test_the_graph_equals_the_block_by_block_attention(length, num_rounds):
    queries, values = torch.randn(2, 2, 3, length, 5)  # length 1100 in buckets of 4: 274 buckets, two digits
    rotations = random_rotations(num_rounds, 5, seed=1)
    buckets = hash_in_graph(queries, rotations, 4)
    assert torch.equal(buckets, hash_vectors(queries, rotations, number_of_buckets(length, 4)))
    expected = lsh_attention(queries, values, buckets, 8)
    torch.testing.assert_close(lsh_attention_graph(queries, values, buckets, 8), expected, atol=1e-5, rtol=1e-5)
