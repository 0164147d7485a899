import copy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from custom_components import LSHAttention
from custom_components.networks.lsh.attention import FullAttention
from custom_components.networks.lsh.hashing import bucket_factors, hash_vectors, number_of_buckets, random_rotations
from custom_components.networks.lsh.rounds import lsh_attention
from custom_components.networks.lsh.steps import hidden_pairs
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference.lsh_attention import attended_pairs, lsh_attention_reference


def draw_problem(seed, length, heads, dim, rounds, num_buckets, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    queries = scale * torch.randn(2, heads, length, dim, generator=generator)
    values = torch.randn(2, heads, length, dim, generator=generator)
    buckets = torch.randint(num_buckets, (rounds, 2, heads, length), generator=generator)
    return queries, values, buckets


def reference(queries, values, buckets, chunk_length, padding=None):
    batch, heads = queries.shape[:2]
    output = []
    for b in range(batch):
        skipped = None if padding is None else padding[b].numpy()
        for h in range(heads):
            union = torch.from_numpy(attended_pairs(buckets[:, b, h].numpy(), chunk_length, skipped))
            output.append(lsh_attention_reference(queries[b, h], values[b, h], union))
    return torch.stack(output).unflatten(0, (batch, heads))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    length=st.integers(1, 60),
    chunk_length=st.integers(1, 12),
    num_buckets=st.integers(1, 9),
    rounds=st.integers(1, 8),
    heads=st.integers(1, 3),
    padded=st.sampled_from([None, "tail", "anywhere"]),
)
def test_output_and_gradients_equal_the_brute_force_softmax_over_the_union(
    seed, length, chunk_length, num_buckets, rounds, heads, padded
):
    queries, values, buckets = draw_problem(seed, length, heads, 5, rounds, num_buckets)
    padding = None
    if padded is not None:
        padding = torch.rand(2, length, generator=torch.Generator().manual_seed(seed)) < 0.3
        padding = padding.sort(dim=-1)[0] if padded == "tail" else padding
        padding[:, 0] = False  # the reference has nothing to differentiate where all is padding
    ours = [queries.clone().requires_grad_(), values.clone().requires_grad_()]
    theirs = [queries.double().requires_grad_(), values.double().requires_grad_()]
    output = lsh_attention(*ours, buckets, chunk_length, padding)
    expected = reference(*theirs, buckets, chunk_length, padding)
    torch.testing.assert_close(output.double(), expected, atol=1e-5, rtol=1e-5)
    weight = torch.randn(output.shape, generator=torch.Generator().manual_seed(seed))
    output.mul(weight).sum().backward()
    expected.mul(weight.double()).sum().backward()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad.double(), other.grad, atol=1e-5, rtol=1e-5)


def test_gradcheck_in_float64():
    queries, values, buckets = draw_problem(3, 17, 2, 3, 3, 3, scale=1.0)
    inputs = [queries.double().requires_grad_(), values.double().requires_grad_()]
    assert torch.autograd.gradcheck(lambda q, v: lsh_attention(q, v, buckets, 4), inputs)


def test_a_token_alone_in_every_round_attends_to_itself():
    queries, values, _ = draw_problem(0, 6, 1, 4, 1, 2)
    buckets = torch.arange(6).expand(3, 2, 1, 6)
    torch.testing.assert_close(lsh_attention(queries, values, buckets, 2), values)


def test_a_sequence_of_padding_alone_gives_zeros():
    queries, values, buckets = draw_problem(0, 5, 2, 4, 2, 3)
    padding = torch.tensor([[True] * 5, [False] * 5])
    output = lsh_attention(queries.requires_grad_(), values, buckets, 2, padding)
    output.sum().backward()
    assert not output[0].any()
    assert torch.equal(queries.grad[0], torch.zeros(2, 5, 4))


def test_two_tokens_in_a_bucket_see_only_each_other():
    queries, values, _ = draw_problem(0, 4, 1, 4, 1, 2)
    buckets = torch.tensor([0, 1, 0, 1]).expand(1, 2, 1, 4)
    torch.testing.assert_close(lsh_attention(queries, values, buckets, 2), values[:, :, [2, 3, 0, 1]])


def test_the_first_chunk_does_not_look_back_to_the_last():
    """One bucket, three chunks of two: tokens 0 and 1 see each other and no others."""
    queries, values, _ = draw_problem(0, 6, 1, 4, 1, 2)
    output = lsh_attention(queries, values, torch.zeros(1, 2, 1, 6, dtype=torch.long), 2)
    torch.testing.assert_close(output[:, :, :2], values[:, :, [1, 0]])


def test_more_rounds_come_closer_to_full_attention_where_logits_are_peaked():
    torch.manual_seed(0)
    centres = torch.randn(40, 16)
    queries = (centres[torch.arange(400) % 40] + 0.05 * torch.randn(400, 16))[None, None] * 30
    values = torch.randn(1, 1, 400, 16)
    whole = torch.ones(400, 400, dtype=torch.bool)
    full = lsh_attention_reference(queries[0, 0].double(), values[0, 0].double(), whole)
    errors = []
    for rounds in (1, 4, 8):
        buckets = hash_vectors(queries, random_rotations(rounds, 16, 0), number_of_buckets(400, 20))
        errors.append((lsh_attention(queries, values, buckets, 40)[0, 0] - full).norm().item())
    assert errors[0] > 1.5 * errors[1] > 1.5 * errors[2]


def test_a_pair_met_in_an_earlier_round_is_hidden():
    same = torch.zeros(1, 2, dtype=torch.int16)
    codes_q, codes_k = torch.tensor([[[5, 9]]]), torch.tensor([[[5, 4, 8, 3]]])
    hidden = hidden_pairs(same, torch.zeros(1, 4, dtype=torch.int16), codes_q, codes_k)
    assert hidden.tolist() == [[[True, True, False, False], [False, False, True, False]]]


@pytest.mark.parametrize("num_buckets", [10, 300])
def test_the_hash_is_the_argmax_of_both_signs_and_the_first_of_equals(num_buckets):
    vectors, rotations = torch.randn(2, 3, 41, 6), random_rotations(2, 6, seed=1)
    vectors[:, :, 7] = 0.0
    first, second = bucket_factors(num_buckets)

    def digit(rotation):
        rotated = vectors @ rotation
        return torch.cat([rotated, -rotated], dim=-1).argmax(dim=-1)

    expected = torch.stack([digit(table[0, :, : first // 2]) for table in rotations])
    if second > 1:
        expected = expected * second + torch.stack([digit(table[1, :, : second // 2]) for table in rotations])
    assert torch.equal(hash_vectors(vectors, rotations, num_buckets), expected)
    assert not expected[..., 7].any()


def test_eval_is_deterministic_and_training_draws_new_rotations():
    attention, tokens = LSHAttention(8, num_heads=2, bucket_size=4), torch.randn(1, 90, 8)
    assert not torch.equal(attention(tokens), attention(tokens))
    attention.eval()
    assert torch.equal(attention(tokens), attention(tokens))


def test_a_restored_state_continues_with_the_same_draws():
    attention, tokens = LSHAttention(8, num_heads=2, bucket_size=4), torch.randn(1, 90, 8)
    attention(tokens)
    state = copy.deepcopy(attention.state_dict())
    following = attention(tokens)
    other = LSHAttention(8, num_heads=2, bucket_size=4)
    other.load_state_dict(state)
    assert torch.equal(other(tokens), following)


def test_the_global_random_state_is_left_alone():
    attention, tokens = LSHAttention(8), torch.randn(1, 50, 8)
    before = torch.get_rng_state()
    attention(tokens)
    assert torch.equal(before, torch.get_rng_state())


def test_a_sample_does_not_depend_on_the_others_of_its_batch():
    """In float64: in float32 rounding may move a token across the border of two buckets."""
    attention, tokens = LSHAttention(8, bucket_size=4).double().eval(), torch.randn(3, 77, 8).double()
    alone = torch.cat([attention(tokens[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(attention(tokens), alone)


def test_padding_changes_nothing():
    attention = LSHAttention(8, bucket_size=4).double().eval()
    tokens = torch.randn(2, 83, 8).double()
    padding = torch.zeros(2, 120, dtype=torch.bool)
    padding[0, 83:], padding[1, 40:] = True, True
    padded = torch.cat([tokens, 100 * torch.randn(2, 37, 8).double()], dim=1)
    output = attention(padded, padding)
    torch.testing.assert_close(output[0, :83], attention(tokens[:1])[0])
    torch.testing.assert_close(output[1, :40], attention(tokens[1:, :40])[0])


def test_autocast_does_not_move_tokens_between_buckets():
    attention, tokens = LSHAttention(16, bucket_size=8).eval(), torch.randn(1, 500, 16)
    expected = attention.hash_tokens(attention.split_heads(attention.project_queries(tokens)))
    with torch.autocast("cpu", torch.bfloat16):
        buckets = attention.hash_tokens(attention.split_heads(attention.project_queries(tokens)))
        output = attention(tokens)
    assert torch.equal(buckets, expected)
    error = (output.float() - attention(tokens)).norm() / attention(tokens).norm()
    assert error < 0.02


def test_half_precision_hashing_is_refused():
    with pytest.raises(ValueError, match="float32"):
        hash_vectors(torch.zeros(4, 8, dtype=torch.bfloat16), random_rotations(1, 8, 0), 2)


@pytest.mark.parametrize("length", [1, 7, 64, 129])
def test_the_scripted_module_equals_the_eager_one_on_any_length(length):
    attention = LSHAttention(8, num_heads=2, bucket_size=4, num_rounds=3).eval()
    scripted = torch.jit.script(attention)
    tokens = torch.randn(2, length, 8)
    torch.testing.assert_close(scripted(tokens), attention(tokens), atol=1e-6, rtol=1e-6)


def test_factorised_hashing_keeps_bucket_sizes_near_the_mean():
    vectors = torch.randn(20_000, 16)
    buckets = hash_vectors(vectors, random_rotations(2, 16, 0), number_of_buckets(20_000, 32))
    counts = np.bincount(buckets[0].numpy())
    assert 400 < len(counts) <= 700
    assert counts.max() < 20 * 32


def test_heads_must_divide_channels_and_tokens_must_fit():
    with pytest.raises(ValueError, match="multiple of num_heads"):
        LSHAttention(10, num_heads=4)
    with pytest.raises(ValueError, match=r"\(batch, length, 8\), got \[2, 5, 7\]"):
        LSHAttention(8)(torch.zeros(2, 5, 7))


def test_lsh_and_full_attention_share_their_parameters():
    lsh, full, other = LSHAttention(8), FullAttention(8), LSHAttention(8)
    lsh(torch.zeros(1, 5, 8))
    saved = lsh.state_dict()
    full.load_state_dict(saved)
    assert torch.equal(full.to_qk.weight, lsh.to_qk.weight)
    other.load_state_dict(saved)
    other.load_state_dict(full.state_dict())
    assert int(other.training_calls) == int(saved["training_calls"]) == 1


MEMORY_PROBE = r"""
import re, torch
from custom_components import LSHAttention
for length in (16_000, 48_000):
    tokens = torch.randn(1, length, 64, requires_grad=True)
    LSHAttention(64)(tokens).sum().backward()
    print(1024 * int(re.search(r"VmHWM:\s+(\d+) kB", open("/proc/self/status").read())[1]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs /proc, which Linux has")
def test_training_memory_is_linear_in_the_length():
    """32,000 more tokens cost less than 60 arrays of them; the L x L matrix of one head would be 9 GB more."""
    first, second = map(int, subprocess.check_output([sys.executable, "-c", MEMORY_PROBE]).split())
    assert 0 < second - first < 60 * 32_000 * 64 * 4
