"""Networks of several tasks that benchmarks train: residual, transformer, LeNet, perceptron."""

import itertools

import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, width, stride=1, grow=1):
        super().__init__()
        out = width * grow
        self.body = nn.Sequential(
            nn.Conv2d(width, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU(),
            nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out),
        )  # fmt: skip
        self.skip = nn.Identity() if grow == 1 else nn.Conv2d(width, out, 1, stride, bias=False)

    def forward(self, x):
        return torch.relu(self.body(x) + self.skip(x))


class ManyHeads(nn.Module):
    """A trunk and m classifiers of ten classes."""

    def __init__(self, trunk, width, tasks, shape):
        super().__init__()
        self.trunk = trunk
        self.heads = nn.ModuleList([nn.Linear(width, 10) for _ in range(tasks)])
        self.x = torch.randn(shape)
        self.targets = torch.randint(10, (tasks, shape[0]))

    def losses(self):
        z = self.trunk(self.x)
        return [
            nn.functional.cross_entropy(head(z), y)
            for head, y in zip(self.heads, self.targets, strict=True)
        ]


def residual(tasks):
    """Eight residual blocks, 64 to 512 wide (11 million parameters), on 16 × 16 pictures."""
    trunk = nn.Sequential(
        nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU(),
        Block(64), Block(64), Block(64, 2, 2), Block(128), Block(128, 2, 2), Block(256),
        Block(256, 2, 2), Block(512), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip
    return ManyHeads(trunk, 512, tasks, (64, 3, 16, 16))


class Encoder(nn.Module):
    """Tokens [n, t] to one vector each [n, width]: two layers of attention, and the mean."""

    def __init__(self, width):
        super().__init__()
        self.embedding = nn.Embedding(256, width)
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, 0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, tokens):
        return self.layers(self.embedding(tokens)).mean(1)


def transformer(tasks):
    """Two layers 128 wide (0.4 million parameters) on 32 sequences of 32 tokens."""
    model = ManyHeads(Encoder(128), 128, tasks, (32, 32))
    model.x = torch.randint(256, (32, 32))
    return model


class LeNet(nn.Module):
    """Two convolutions, a hidden layer, a head per task; `LeNet(28)` has 84K parameters."""

    def __init__(self, size, channels=(10, 20), kernel=5, padding=0, features=230, tasks=2):
        super().__init__()
        side = size
        for _ in range(2):
            side = (side + 2 * padding - kernel + 1) // 2
        self.trunk = nn.Sequential(  # max and ReLU commute; this order is faster
            *(nn.Conv2d(1, channels[0], kernel, padding=padding), nn.MaxPool2d(2), nn.ReLU()),
            *(nn.Conv2d(*channels, kernel, padding=padding), nn.MaxPool2d(2), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(channels[1] * side**2, features), nn.ReLU()),
        )
        self.heads = nn.ModuleList(nn.Linear(features, 10) for _ in range(tasks))

    @property
    def last_shared(self):
        return self.trunk[-2]

    def forward(self, images):
        z = self.trunk(images)
        return [head(z) for head in self.heads]


class Perceptron(nn.Module):
    """Hidden layers of the given widths, and one output per task, or a row of logits per task."""

    def __init__(self, inputs, widths, tasks, classes=None):
        super().__init__()
        layers = [nn.Linear(*pair) for pair in itertools.pairwise((inputs, *widths))]
        self.trunk = nn.Sequential(*(part for layer in layers for part in (layer, nn.ReLU())))
        self.heads = nn.Linear(widths[-1], tasks * (classes or 1))
        self.shape = None if classes is None else (tasks, classes)

    @property
    def last_shared(self):
        return self.trunk[-2]

    def forward(self, x):
        out = self.heads(self.trunk(x))
        return out if self.shape is None else out.unflatten(1, self.shape).unbind(1)
