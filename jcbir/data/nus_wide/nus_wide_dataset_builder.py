"""Builder of NUS-WIDE from a folder that the user has downloaded; needs tensorflow-datasets, not TensorFlow."""

import io
from collections.abc import Iterator
from typing import Any, ClassVar

import tensorflow_datasets as tfds
from PIL import Image

CONCEPTS = (
    "airport",
    "animal",
    "beach",
    "bear",
    "birds",
    "boats",
    "book",
    "bridge",
    "buildings",
    "cars",
    "castle",
    "cat",
    "cityscape",
    "clouds",
    "computer",
    "coral",
    "cow",
    "dancing",
    "dog",
    "earthquake",
    "elk",
    "fire",
    "fish",
    "flags",
    "flowers",
    "food",
    "fox",
    "frost",
    "garden",
    "glacier",
    "grass",
    "harbor",
    "horses",
    "house",
    "lake",
    "leaf",
    "map",
    "military",
    "moon",
    "mountain",
    "nighttime",
    "ocean",
    "person",
    "plane",
    "plants",
    "police",
    "protest",
    "railroad",
    "rainbow",
    "reflection",
    "road",
    "rocks",
    "running",
    "sand",
    "sign",
    "sky",
    "snow",
    "soccer",
    "sports",
    "statue",
    "street",
    "sun",
    "sunset",
    "surf",
    "swimmers",
    "tattoo",
    "temple",
    "tiger",
    "tower",
    "town",
    "toy",
    "train",
    "tree",
    "valley",
    "vehicle",
    "water",
    "waterfall",
    "wedding",
    "whales",
    "window",
    "zebra",
)
"""The 81 concepts, in alphabetical order."""

TOP21 = (
    "animal",
    "beach",
    "buildings",
    "clouds",
    "flowers",
    "grass",
    "lake",
    "mountain",
    "ocean",
    "person",
    "plants",
    "reflection",
    "road",
    "rocks",
    "sky",
    "snow",
    "sunset",
    "tree",
    "vehicle",
    "water",
    "window",
)
"""The 21 concepts with most photographs."""

PHOTOGRAPHS = 269_648
"""In the whole set."""


class Builder(tfds.core.GeneratorBasedBuilder):
    """NUS-WIDE: `all` holds 81 concepts, `top21` the photographs with one of the 21 most frequent ones."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name="all", description="All photographs, 81 concepts."),
        tfds.core.BuilderConfig(name="top21", description="Photographs with one of the 21 most frequent concepts."),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Ask for the photographs as the National University of Singapore says on the page of NUS-WIDE, and unpack beside one
    another in the manual folder:
      Flickr/<folder>/<name>.jpg                      the photographs
      ImageList/TrainImagelist.txt, TestImagelist.txt one path a line, `actor\\0001_2124494179.jpg`
      TrainTestLabels/Labels_<concept>_Train.txt, ..._Test.txt
                                                      one 0 or 1 a line, in the order of the image list
    """

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
                    "id": tfds.features.Text(),
                    "concepts": tfds.features.Sequence(tfds.features.ClassLabel(names=self._concepts())),
                }
            ),
            supervised_keys=("image", "concepts"),
            homepage="https://lms.comp.nus.edu.sg/wp-content/uploads/2019/research/nuswide/NUS-WIDE.html",
            metadata=tfds.core.MetadataDict({"skipped": []}),
        )

    def _concepts(self) -> tuple[str, ...]:
        return TOP21 if self.builder_config.name == "top21" else CONCEPTS

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        root = dl_manager.manual_dir
        tables = {name: _read_part(root, name, self._concepts()) for name in ("Train", "Test")}
        if self.builder_config.name == "top21" and sum(len(ids) for ids, _ in tables.values()) == PHOTOGRAPHS:
            _check_top21(root)
        return {name.lower(): self._generate_examples(root, *table) for name, table in tables.items()}

    def _generate_examples(
        self, root: Any, ids: list[str], rows: list[list[int]]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        # `_info` sets the metadata; its declared type admits None.
        skipped = (self.info.metadata or {})["skipped"]
        for identity, present in zip(ids, rows, strict=True):
            if self.builder_config.name == "top21" and not present:
                continue
            try:
                encoded = (root / "Flickr" / identity).read_bytes()
                # Reads the header and no pixels: enough for the error pages that lie between the photographs.
                Image.open(io.BytesIO(encoded)).close()
            except OSError:
                skipped.append(identity)
                continue
            yield identity, {"image": io.BytesIO(encoded), "id": identity, "concepts": present}


def _read_part(root: Any, part: str, concepts: tuple[str, ...]) -> tuple[list[str], list[list[int]]]:
    """Ids and the concepts present in each photograph of a part."""
    lines = (root / "ImageList" / f"{part}Imagelist.txt").read_text().split("\n")
    ids = [line.strip().replace("\\", "/") for line in lines if line.strip()]
    columns = [_read_labels(root, part, concept, len(ids)) for concept in concepts]
    return ids, [[i for i, flag in enumerate(row) if flag] for row in zip(*columns, strict=True)]


def _read_labels(root: Any, part: str, concept: str, count: int) -> list[bool]:
    flags = (root / "TrainTestLabels" / f"Labels_{concept}_{part}.txt").read_text().split()
    if len(flags) != count or set(flags) - {"0", "1"}:
        raise ValueError(f"labels of {concept} in {part}: must be {count} lines of 0 or 1, got {len(flags)}")
    return [flag == "1" for flag in flags]


def _check_top21(root: Any) -> None:
    totals = dict.fromkeys(CONCEPTS, 0)
    for part in ("Train", "Test"):
        for present in _read_part(root, part, CONCEPTS)[1]:
            for index in present:
                totals[CONCEPTS[index]] += 1
    frequent = sorted(sorted(totals, key=totals.__getitem__, reverse=True)[:21])
    if frequent != sorted(TOP21):
        raise ValueError(f"the 21 most frequent concepts: must be {sorted(TOP21)}, got {frequent}")
