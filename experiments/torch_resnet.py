"""A PyTorch ResNet with torchvision's names, written from the paper's table: the independent second implementation."""

import numpy as np
import torch
from torch import nn

STAGES = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


class Block(nn.Module):
    def __init__(self, inputs, width, stride, bottleneck, keras):
        super().__init__()
        outputs = width * 4 if bottleneck else width
        first, second = (stride, 1) if keras else (1, stride)
        plan = [(inputs, width, 1, first), (width, width, 3, second), (width, outputs, 1, 1)]
        plan = plan if bottleneck else [(inputs, width, 3, stride), (width, width, 3, 1)]
        for i, (a, b, k, s) in enumerate(plan, 1):
            setattr(self, f"conv{i}", nn.Conv2d(a, b, k, s, k // 2, bias=keras))
            setattr(self, f"bn{i}", nn.BatchNorm2d(b, eps=1e-3 if keras else 1e-5))
        self.count = len(plan)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=keras)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(outputs, eps=1e-3 if keras else 1e-5))

    def forward(self, x):
        y = x
        for i in range(1, self.count + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            y = torch.relu(y) if i < self.count else y
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """torchvision's v1.5, or with `keras` the older v1: stride in the first 1x1, biases, epsilon 1e-3."""

    def __init__(self, depth, classes=1000, width=64, keras=False, stages=None):
        super().__init__()
        bottleneck = depth >= 50
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=keras)
        self.bn1 = nn.BatchNorm2d(width, eps=1e-3 if keras else 1e-5)
        inputs = width
        for stage, blocks in enumerate(stages or STAGES[depth]):
            layers = []
            for i in range(blocks):
                layers.append(Block(inputs, width << stage, 2 if stage and not i else 1, bottleneck, keras))
                inputs = (width << stage) * (4 if bottleneck else 1)
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))
        self.fc = nn.Linear(inputs, classes) if classes else nn.Identity()

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = nn.functional.max_pool2d(x, 3, 2, 1)
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
        return self.fc(x.mean((2, 3)))


def random_resnet(depth, classes=1000, **options):
    """Random weights and random BatchNorm statistics, in evaluation mode."""
    torch.manual_seed(depth)
    network = ResNet(depth, classes, **options)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.3, 0.9)
            nn.init.normal_(module.bias, 0, 0.2)
            nn.init.normal_(module.running_mean, 0, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network.eval()


def tensors(network):
    return {name: value.detach().numpy() for name, value in network.state_dict().items()}


def images(count, size, generator=0):
    return np.random.default_rng(generator).standard_normal((count, size, size, 3)).astype(np.float32)
