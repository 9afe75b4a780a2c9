"""The two models of the benchmark in PyTorch, and the loop in which a peer answers requests for a measurement."""

import json
import math
import sys

import torch
from torch import nn
from torch.nn import functional as F

D, K, WIDTH, HEADS, HIDDEN = 4, 8, 64, 4, 64


class Linear(nn.Module):
    """y = W₂ W₁ x, 16 → 32 → 16: 1,024 parameters."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(16, 32, bias=False), nn.Linear(32, 16, bias=False)

    def forward(self, x):
        return self.second(self.first(x))


class Block(nn.Module):
    def __init__(self, fused_attention):
        super().__init__()
        self.fused_attention = fused_attention
        self.attention_norm, self.mlp_norm = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, WIDTH))
        self.register_buffer("causal", torch.ones(2 * K, 2 * K).tril()[None, None].bool())

    def attend(self, x):
        batch, length, _ = x.shape
        q, k, v = (part.view(batch, length, HEADS, -1).transpose(1, 2) for part in self.qkv(x).split(WIDTH, dim=2))
        if self.fused_attention:
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            scores = (q @ k.transpose(-2, -1)) / math.sqrt(q.shape[-1])
            mixed = scores.masked_fill(~self.causal, float("-inf")).softmax(-1) @ v
        return self.out(mixed.transpose(1, 2).reshape(batch, length, WIDTH))

    def forward(self, x):
        inner = x + self.attend(self.attention_norm(x))
        return inner + self.mlp(self.mlp_norm(inner))


class Transformer(nn.Module):
    """The linear-regression transformer with its doubled residual, from tokens to the K predictions: 51,717 parameters."""

    def __init__(self, fused_attention):
        super().__init__()
        self.token_embedding = nn.Linear(D + 1, WIDTH, bias=False)
        self.position_embedding = nn.Parameter(torch.empty(2 * K, WIDTH).uniform_(-0.25, 0.25))
        self.blocks = nn.ModuleList(Block(fused_attention) for _ in range(2))
        self.final_norm, self.unembedding = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, D + 1)

    def forward(self, tokens):
        x = self.token_embedding(tokens) + self.position_embedding
        for block in self.blocks:
            x = x + block(x)
        return self.unembedding(self.final_norm(x))[:, ::2, 0]


def problem(name, n, fused_attention):
    """`(model, dataset)` of a row; random data of the right shapes, since values do not change the time."""
    torch.manual_seed(0)
    if name == "linear":
        model, inputs, targets = Linear(), torch.randn(n, 16), torch.randn(n, 16)
    else:
        model, inputs, targets = Transformer(fused_attention), torch.randn(n, 2 * K, D + 1), torch.randn(n, K)
    size = sum(p.numel() for p in model.parameters())
    assert size == {"linear": 1024, "transformer": 51_717}[name], size
    return model, torch.utils.data.TensorDataset(inputs, targets)


def serve(measure, versions):
    """Say who answers, then for every request on stdin, one JSON object a line, print `measure(**request)`."""
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever the peer prints must not look like an answer
    print(json.dumps(versions), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(measure(**json.loads(line))), file=answers, flush=True)
