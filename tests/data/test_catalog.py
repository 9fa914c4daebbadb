"""tensorflow-datasets as a source, and the NUS-WIDE builder, both on made data and without TensorFlow."""

import io
import sys

import numpy as np
import pytest
from PIL import Image

tfds = pytest.importorskip("tensorflow_datasets")

from jcbir.data import builder_source, load, tfds_source  # noqa: E402
from jcbir.data.nus_wide import nus_wide_dataset_builder as nus  # noqa: E402

# Its dependencies warn of deprecations and leave files to the garbage collector.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("no_tensorflow")]


@pytest.fixture
def no_tensorflow():
    yield
    assert "tensorflow" not in sys.modules


def picture(value: int, kind: str = "PNG", size=(9, 7)) -> io.BytesIO:
    stream = io.BytesIO()
    Image.new("RGB", size, (value, 255 - value, 0)).save(stream, kind)
    stream.seek(0)
    return stream


class Tiny(tfds.core.GeneratorBasedBuilder):
    """Six pictures of two classes, with objects."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        feature = tfds.features
        return tfds.core.DatasetInfo(
            builder=self,
            features=feature.FeaturesDict(
                {
                    "image": feature.Image(shape=(None, None, 3), encoding_format="png"),
                    "label": feature.ClassLabel(names=["cat", "dog"]),
                    "id": feature.Text(),
                    "objects": feature.Sequence({"label": feature.ClassLabel(names=["ear", "leg", "tail"])}),
                }
            ),
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(6), "test": self._generate_examples(2)}

    def _generate_examples(self, count):
        for i in range(count):
            objects = [{"label": j} for j in range(3) if i >> j & 1]
            yield i, {"image": picture(40 * i), "label": i % 2, "id": f"train_{i:05d}", "objects": objects}


@pytest.fixture(params=["array_record", "parquet"])
def tiny(request, tmp_path):
    builder = Tiny(data_dir=tmp_path, file_format=request.param)
    builder.download_and_prepare()
    return builder


def test_classes_ids_and_pictures(tiny):
    source = builder_source(tiny, rename=lambda name: name.replace("_", "/"))
    assert sorted(source.ids) == [f"train/{i:05d}" for i in range(6)]
    assert source.names == ("cat", "dog")
    split, skipped = load(source, size=4)
    assert skipped == ()
    for image, label, identity in zip(split.images, split.labels, split.ids, strict=True):
        number = int(identity[-1])
        assert label == number % 2
        assert image[0, 0].tolist() == [40 * number, 255 - 40 * number, 0]


def test_several_classes_and_slices(tiny, request):
    if "parquet" in request.node.name:
        with pytest.raises(ValueError, match="slices need array_record"):
            builder_source(tiny, split="train[:50%]", label="objects/label")
        return
    source = builder_source(tiny, split="train[:50%]", label="objects/label")
    assert source.labels.shape == (3, 3)
    for row, identity in zip(source.labels, source.ids, strict=True):
        assert row.tolist() == [bool(int(identity[-1]) >> j & 1) for j in range(3)]
    assert builder_source(tiny, split="test", identity="id").ids[0].startswith("train_")


def test_wrong_features(tiny):
    for label in ("nothing", "id", "objects", "objects/nothing"):
        with pytest.raises(ValueError, match="label: must be the path of a class"):
            builder_source(tiny, label=label)
    with pytest.raises(ValueError, match="image: must be a feature"):
        builder_source(tiny, image="picture")


def test_not_prepared(tmp_path):
    with pytest.raises(ValueError, match="must be prepared"):
        builder_source(Tiny(data_dir=tmp_path))
    with pytest.raises(ValueError, match="must be prepared"):
        tfds_source("cifar10", folder=tmp_path)


def made_nus_wide(root, *, train: int, test: int) -> None:
    rng = np.random.default_rng(0)
    (root / "ImageList").mkdir(parents=True)
    (root / "TrainTestLabels").mkdir()
    for part, count in (("Train", train), ("Test", test)):
        names = [f"actor\\{i:04d}_{part}.jpg" for i in range(count)]
        (root / "ImageList" / f"{part}Imagelist.txt").write_text("\r\n".join(names) + "\r\n")
        for concept in nus.CONCEPTS:
            flags = rng.random(count) < 0.05
            flags[0] = concept == "zebra"
            flags[1] = concept in ("sky", "zebra")
            (root / "TrainTestLabels" / f"Labels_{concept}_{part}.txt").write_text(
                "".join(f"{int(f)}\n" for f in flags)
            )
        for i, name in enumerate(names):
            file = root / "Flickr" / name.replace("\\", "/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(picture(i, "JPEG").getvalue())
    (root / "Flickr" / "actor" / "0003_Train.jpg").write_bytes(b"<html>photo unavailable</html>")
    (root / "Flickr" / "actor" / "0004_Train.jpg").unlink()


@pytest.mark.parametrize("config", ["all", "top21"])
def test_nus_wide(tmp_path, config):
    manual = tmp_path / "manual"
    made_nus_wide(manual, train=12, test=5)
    builder = nus.Builder(data_dir=tmp_path / "prepared", config=config, file_format="array_record")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=manual))
    train, test = (builder_source(builder, split=split, label="concepts") for split in ("train", "test"))
    assert train.names == (nus.TOP21 if config == "top21" else nus.CONCEPTS)
    everything = {f"actor/{i:04d}_Train.jpg" for i in range(12)} - {"actor/0003_Train.jpg", "actor/0004_Train.jpg"}
    if config == "all":
        assert set(train.ids) == everything
        assert len(test.ids) == 5
        row = dict(zip(train.ids, train.labels, strict=True))["actor/0001_Train.jpg"]
        assert [name for name, flag in zip(train.names, row, strict=True) if flag] == ["sky", "zebra"]
    else:
        assert "actor/0000_Train.jpg" not in train.ids
        assert "actor/0001_Train.jpg" in train.ids
        assert train.labels.any(1).all()
    skipped = nus.Builder(data_dir=tmp_path / "prepared", config=config).info.metadata["skipped"]
    assert set(skipped) <= {"actor/0003_Train.jpg", "actor/0004_Train.jpg"}
    assert config == "top21" or len(skipped) == 2
    split, broken = load(train, size=4)
    assert len(split.ids) == len(train.ids)
    assert broken == ()


def test_nus_wide_refuses_labels_of_another_length(tmp_path):
    made_nus_wide(tmp_path / "manual", train=6, test=3)
    (tmp_path / "manual" / "TrainTestLabels" / "Labels_sky_Train.txt").write_text("0\n1\n")
    builder = nus.Builder(data_dir=tmp_path / "prepared", config="all", file_format="array_record")
    with pytest.raises(ValueError, match="labels of sky in Train: must be 6 lines"):
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=tmp_path / "manual"))


def test_the_concepts():
    assert len(nus.CONCEPTS) == len(set(nus.CONCEPTS)) == 81
    assert len(nus.TOP21) == 21
    assert set(nus.TOP21) < set(nus.CONCEPTS)
    assert list(nus.CONCEPTS) == sorted(nus.CONCEPTS)
