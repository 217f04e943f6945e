"""Data sets, on small trees drawn in exactly their owners' layouts."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from manet.labels import CLASS_ORDERS, Expression, expression_named
from manet.vision.formats import SUFFIXES
from testing.data_sets import draw_fer2013, draw_image
from training.data.datasets import Name, load, without_broken
from training.data.datasets.expression_set import DatasetError, Split, count_remark

SPLITS: tuple[Split, ...] = ("train", "valid", "test")


def test_raf_db_by_its_list(raf_db: Path) -> None:
    found = load("raf_db", raf_db.parent, "train")

    assert [found.classes[label] for label in found.labels] == ["sadness", "surprise"]
    assert found.classes == CLASS_ORDERS["raf_db"]
    assert found.remark is not None
    assert found.remark.startswith("raf_db train has 12271 images, this copy 2: surprise 1 of 1290, fear 0 of 281")
    assert found.read(0).mean() == pytest.approx(200, abs=2)
    assert load("raf_db", raf_db, "test").labels.tolist() == [0]


def test_raf_db_in_the_authors_folders(tmp_path: Path) -> None:
    draw_image(tmp_path / "train/0/a.jpg")
    draw_image(tmp_path / "train/6/b.jpg")

    found = load("raf_db", tmp_path, "train")

    assert [found.classes[label] for label in found.labels] == ["neutral", "anger"]


def test_raf_db_in_folders_numbered_as_in_the_owners_list(tmp_path: Path) -> None:
    for number in (1, 7):
        draw_image(tmp_path / f"train/{number}/a.jpg")

    found = load("raf_db", tmp_path, "train")

    assert [found.classes[label] for label in found.labels] == ["surprise", "neutral"]
    draw_image(tmp_path / "train/0/a.jpg")
    with pytest.raises(DatasetError, match="has folders 0 and 7"):
        load("raf_db", tmp_path, "train")


def test_a_byte_order_mark_is_no_part_of_a_list(raf_db: Path, tmp_path: Path) -> None:
    listing = raf_db / "basic/EmoLabel/list_patition_label.txt"
    listing.write_text(listing.read_text(), encoding="utf-8-sig")
    assert len(load("raf_db", raf_db, "train")) == 2

    table = tmp_path / "fer/fer2013.csv"
    table.parent.mkdir()
    draw_fer2013(table.parent)
    table.write_text(table.read_text(), encoding="utf-8-sig")
    assert len(load("fer2013", table.parent, "train")) == 2


def test_a_list_in_utf_16_is_an_error_that_says_so(raf_db: Path, tmp_path: Path) -> None:
    listing = raf_db / "basic/EmoLabel/list_patition_label.txt"
    listing.write_text(listing.read_text(), encoding="utf-16")
    with pytest.raises(DatasetError, match=r"list_patition_label\.txt is not UTF-8 text; if it is UTF-16"):
        load("raf_db", raf_db, "train")
    table = tmp_path / "fer2013.csv"
    table.write_text("emotion,pixels,Usage\n", encoding="utf-16")
    with pytest.raises(DatasetError, match=r"fer2013\.csv is not UTF-8 text"):
        load("fer2013", tmp_path, "train")
    listed = tmp_path / "list.txt"
    listed.write_text("a.jpg", encoding="utf-16")
    draw_image(tmp_path / "folders/train/happy/a.jpg")
    with pytest.raises(DatasetError, match=r"list\.txt is not UTF-8 text"):
        load("folders", tmp_path / "folders", "train").only_listed(listed)


def test_hidden_files_are_ignored_and_a_jfif_is_read(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.png"):
        draw_image(tmp_path / "train/happy" / name)
    Image.new("RGB", (20, 20)).save(tmp_path / "train/happy/c.jfif", "JPEG")
    (tmp_path / "train/happy/._a.jpg").write_text("a resource fork")
    (tmp_path / "train/.ipynb_checkpoints").mkdir()
    draw_image(tmp_path / "__MACOSX/train/sad/._a.jpg")

    found = load("folders", tmp_path, "train")

    assert [path.name for path in found.paths] == ["a.jpg", "b.png", "c.jfif"]


def test_images_in_a_folder_of_a_class_folder_are_not_missed_in_silence(tmp_path: Path) -> None:
    draw_image(tmp_path / "train/happy/a.jpg")
    draw_image(tmp_path / "train/happy/more/b.jpg")
    with pytest.raises(DatasetError, match="happy contains 1 folders, the first more; images must be directly in it"):
        load("folders", tmp_path, "train")
    for person in ("ann", "bob"):
        draw_image(tmp_path / "people" / person / "2020/a.jpg")
    with pytest.raises(DatasetError, match="ann contains 1 folders, the first 2020"):
        load("identities", tmp_path / "people", "train")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_that_the_service_reads_is_read(tmp_path: Path, suffix: str) -> None:
    draw_image(tmp_path / "train/happy/a.png")
    (tmp_path / "train/happy/a.png").rename(tmp_path / "train/happy" / f"a{suffix.upper()}")

    assert load("folders", tmp_path, "train").read(0).shape == (24, 20, 3)


@pytest.mark.parametrize(
    ("name", "split", "full", "empty"),
    [
        ("folders", "train", "train/happy", "train/sad"),
        ("fed_ro", "test", "FED-RO/happy", "FED-RO/sad"),
        ("raf_db", "train", "train/0", "train/6"),
        ("identities", "train", "ann", "bob"),
    ],
)
def test_a_class_folder_without_images_is_refused(
    tmp_path: Path, name: Name, split: Split, full: str, empty: str
) -> None:
    draw_image(tmp_path / full / "a.png")
    (tmp_path / empty).mkdir()
    (tmp_path / empty / "a.txt").write_text("no image")

    with pytest.raises(DatasetError, match=f"{empty} contains no image that is read"):
        load(name, tmp_path, split)


def test_files_that_are_passed_over_are_counted_by_suffix(tmp_path: Path) -> None:
    for image in ("happy/a.png", "sad/a.png", "lost.PNG"):
        draw_image(tmp_path / "train" / image)
    for file in ("happy/a.txt", "sad/b.TXT", "sad/README", "sad/.DS_Store", "labels.csv"):
        (tmp_path / "train" / file).write_text("no image")

    assert load("folders", tmp_path, "train").remark == (
        f"{tmp_path / 'train'}: 5 files are not read: directly in it .csv 1, .png 1; "
        "in its folders without suffix 1, .txt 2"
    )


def test_what_else_is_passed_over_is_counted_too(tmp_path: Path) -> None:
    for image in ("sfew/Train/Train_Aligned_Faces/Happy/a.png", "people/ann/a.png", "people/bob/a.png"):
        draw_image(tmp_path / image)
    draw_image(tmp_path / "raf/train/0/a.png")
    for folder in ("sfew/Train/Train_Aligned_Faces", "people", "raf/train"):
        (tmp_path / folder / "labels.csv").write_text("no image")
    names: tuple[tuple[Name, str], ...] = ("sfew", "sfew"), ("identities", "people"), ("raf_db", "raf")

    for name, folder in names:
        remark = load(name, tmp_path / folder, "train").remark
        assert remark is not None
        assert remark.endswith("1 files are not read: directly in it .csv 1")


def test_raf_db_says_what_is_wrong(raf_db: Path) -> None:
    with pytest.raises(DatasetError, match="no valid split; its owners ship train, test"):
        load("raf_db", raf_db, "valid")
    (raf_db / "basic/Image/aligned/train_00002_aligned.jpg").unlink()
    with pytest.raises(DatasetError, match=r"lacks 1 of 2 images: train_00002_aligned\.jpg"):
        load("raf_db", raf_db, "train")
    listing = raf_db / "basic/EmoLabel/list_patition_label.txt"
    listing.write_text("train_00001.jpg 8\n")
    with pytest.raises(DatasetError, match="line 1: expected an image and a label 1 to 7"):
        load("raf_db", raf_db, "train")
    with pytest.raises(DatasetError, match="contains no RAF-DB: expected basic/EmoLabel"):
        load("raf_db", raf_db / "basic/Image", "train")


def test_caer_s_must_be_prepared(tmp_path: Path) -> None:
    draw_image(tmp_path / "train/Happy/0001.png")
    draw_image(tmp_path / "train/Sad/0001.png")
    with pytest.raises(DatasetError, match="whole images, not faces"):
        load("caer_s", tmp_path, "train")

    (tmp_path / "prepared.json").write_text("{}")
    found = load("caer_s", tmp_path, "train")

    assert [found.classes[label] for label in found.labels] == ["happiness", "sadness"]
    assert found.remark == "caer_s train has 48995 images, this copy 2"


def test_sfew(tmp_path: Path) -> None:
    draw_image(tmp_path / "Train/Train_Aligned_Faces/Angry/a.png", size=(143, 181))
    draw_image(tmp_path / "Val/Val_Aligned_Faces/Surprise/b.png", size=(143, 181))

    assert load("sfew", tmp_path, "train").labels.tolist() == [CLASS_ORDERS["sfew"].index(Expression.ANGER)]
    assert load("sfew", tmp_path, "valid").read(0).shape == (181, 143, 3)


def test_any_folders_have_the_classes_that_are_there(tmp_path: Path) -> None:
    for name in ("angry", "Happiness", "neutral"):
        draw_image(tmp_path / "train" / name / "a.png")

    assert load("folders", tmp_path, "train").classes == ("neutral", "happiness", "anger")
    draw_image(tmp_path / "train/bored/a.png")
    with pytest.raises(DatasetError, match="bored is not named after an expression"):
        load("folders", tmp_path, "train")


def test_every_split_of_any_folders_is_numbered_by_the_training_classes(tmp_path: Path) -> None:
    for place in ("train/happy", "train/sad", "train/fear", "valid/sad", "valid/fear", "test/happy"):
        draw_image(tmp_path / place / "a.png")

    train, valid, test = (load("folders", tmp_path, split) for split in SPLITS)

    assert train.classes == valid.classes == test.classes == ("happiness", "sadness", "fear")
    assert [valid.classes[label] for label in valid.labels] == ["fear", "sadness"]
    assert [test.classes[label] for label in test.labels] == ["happiness"]


def test_a_split_with_a_class_that_the_training_split_lacks_is_refused(tmp_path: Path) -> None:
    for place in ("train/happy", "train/sad", "valid/sad", "valid/angry"):
        draw_image(tmp_path / place / "a.png")

    with pytest.raises(DatasetError, match=r"valid has the classes sadness, anger; .*train has happiness, sadness;"):
        load("folders", tmp_path, "valid")


def test_a_split_alone_has_its_own_classes(tmp_path: Path) -> None:
    for name in ("happy", "angry"):
        draw_image(tmp_path / "test" / name / "a.png")

    assert load("folders", tmp_path, "test").classes == ("happiness", "anger")


def test_a_class_that_a_set_does_not_have(tmp_path: Path) -> None:
    draw_image(tmp_path / "Train/Train_Aligned_Faces/Contempt/a.png")

    with pytest.raises(DatasetError, match="other classes: contempt"):
        load("sfew", tmp_path, "train")


def test_fed_ro_trains_on_two_sets(raf_db: Path, affectnet_csv: Path) -> None:
    draw_image(affectnet_csv / "FED-RO/happy/a.jpg")

    found = load("fed_ro", affectnet_csv, "train")

    assert [found.classes[label] for label in found.labels] == ["anger", "sadness", "surprise"]
    assert [found.read(i).shape for i in range(3)] == [(12, 10, 3), (24, 20, 3), (24, 20, 3)]
    assert load("fed_ro", affectnet_csv, "test").labels.tolist() == [1]


def test_identities_hold_out_one_in_twenty(tmp_path: Path) -> None:
    for person in ("n000002", "n000003"):
        for i in range(21):
            draw_image(tmp_path / person / f"{i:04}.jpg")

    train, valid = load("identities", tmp_path, "train"), load("identities", tmp_path, "valid")

    assert train.classes == ("n000002", "n000003")
    assert np.bincount(train.labels).tolist() == [20, 20]
    assert [path.name for path in valid.paths] == ["0019.jpg", "0019.jpg"]


def test_broken_images_are_listed_and_skipped_only_on_demand(
    ferplus_tree: Path, draw: Callable[[Path, list[tuple[str, str, list[int]]]], Path]
) -> None:
    data = load("ferplus", ferplus_tree, "valid")
    whole = data.paths[2].read_bytes()
    data.paths[2].write_bytes(whole[: len(whole) // 2])
    data.paths[4].write_text("no image")

    with pytest.raises(DatasetError, match="2 images cannot be read") as refused:
        without_broken(data, skip=False)
    kept, lines = without_broken(data, skip=True)

    assert data.paths[2].name in str(refused.value)
    assert data.paths[4].name in str(refused.value)
    assert len(lines) == 2
    assert kept.paths == (*data.paths[:2], data.paths[3], *data.paths[5:])
    assert kept.protocol.endswith(", 2 broken images left out")
    assert np.array_equal(kept.targets, data.targets[[0, 1, 3, 5]])
    assert without_broken(kept, skip=False) == (kept, [])


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def test_images_are_read_as_the_service_reads_them(tmp_path: Path) -> None:
    folder = tmp_path / "train/happy"
    folder.mkdir(parents=True)
    half = np.zeros((24, 20, 3), np.uint8)
    half[:12] = 255
    Image.fromarray(half).save(folder / "1.jpg", exif=_exif(6), quality=95)
    Image.fromarray(np.full((24, 20), 257 * 100, np.uint16)).save(folder / "2.png")
    clear = np.zeros((24, 20, 4), np.uint8)
    clear[:, 10:, 3] = 255
    Image.fromarray(clear).save(folder / "3.png")

    found = load("folders", tmp_path, "train")
    turned, deep, transparent = (found.read(index) for index in range(3))

    assert turned.shape == (20, 24, 3)
    assert turned[:, 14:].min() > 200  # the white upper half lies on the right once turned
    assert (deep == 100).all()
    assert (transparent[:, :10] == 255).all()
    assert (transparent[:, 10:] == 0).all()


def test_a_tiff_is_read_and_a_broken_one_named(tmp_path: Path) -> None:
    draw_image(tmp_path / "train/happy/a.tif")
    found = load("folders", tmp_path, "train")
    [path] = found.paths

    with Image.open(path) as image:
        assert np.array_equal(found.read(0), np.asarray(image.convert("RGB")))
    path.write_bytes((whole := path.read_bytes())[: len(whole) * 3 // 4])
    with pytest.raises(DatasetError, match=r"a\.tif cannot be read"):
        found.read(0)


def test_a_png_broken_in_any_way_is_named(tmp_path: Path) -> None:
    draw_image(tmp_path / "train/happy/a.png", size=(64, 64))
    found = load("folders", tmp_path, "train")
    [path] = found.paths
    whole = path.read_bytes()
    for place in range(8, len(whole) - 12):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        with contextlib.suppress(DatasetError):  # some bytes change only pixels; no other error may come
            found.read(0)


def test_counts_are_compared_class_by_class() -> None:
    expected = {Expression.NEUTRAL: 2, Expression.FEAR: 1}

    assert count_remark("set", "train", ["neutral", "neutral", "fear"], expected) is None
    assert count_remark("set", "train", ["neutral", "fear", "fear"], expected) == (
        "set train has 3 images, this copy 3: neutral 1 of 2, fear 2 of 1"
    )


def test_expressions_by_name() -> None:
    assert expression_named(" Angry") is Expression.ANGER
    assert expression_named("disgust") is Expression.DISGUST
    with pytest.raises(ValueError, match="bored"):
        expression_named("bored")


def test_a_list_of_occluded_images_keeps_those_alone(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        draw_image(tmp_path / f"test/happiness/test_{number:04}_aligned.png")
    listed = tmp_path / "occlusion.txt"
    listed.write_text("test_0001.jpg 4\nRAF/test_0003_aligned.jpg,4\ntest_0009 4\n\n")

    found = load("folders", tmp_path, "test").only_listed(listed)

    assert [path.stem for path in found.paths] == ["test_0001_aligned", "test_0003_aligned"]
    assert found.protocol.endswith("only the 2 of 3 in occlusion.txt")
    listed.write_text("test_0009 4\n")
    with pytest.raises(DatasetError, match="none of the 1 images"):
        load("folders", tmp_path, "test").only_listed(listed)
    with pytest.raises(DatasetError, match="is missing"):
        load("folders", tmp_path, "test").only_listed(tmp_path / "nowhere.txt")
