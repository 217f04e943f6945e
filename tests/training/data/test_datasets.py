"""Data sets, on small trees drawn in exactly their owners' layouts."""

import contextlib
import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from manet.labels import CLASS_ORDERS, Expression, expression_named
from manet.vision.formats import SUFFIXES
from training.data.datasets import Name, load, without_broken
from training.data.datasets.expression_set import DatasetError, Split, count_remark

SPLITS: tuple[Split, ...] = ("train", "valid", "test")


def _draw(path: Path, grey: int = 100, size: tuple[int, int] = (20, 24)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (grey, grey, grey)).save(path)


def _write(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


@pytest.fixture
def raf_db(tmp_path: Path) -> Path:
    """Two training images and one test image, in the owners' list and folder."""
    root = tmp_path / "RAF-DB"
    lines = ["train_00001.jpg 5", "train_00002.jpg 1", "test_0001.jpg 7"]
    for line in lines:
        _draw(root / f"basic/Image/aligned/{line.partition('.')[0]}_aligned.jpg", grey=40 * int(line[-1]))
    (root / "basic/EmoLabel").mkdir()
    (root / "basic/EmoLabel/list_patition_label.txt").write_text("\n".join(lines) + "\n")
    return root


def test_raf_db_by_its_list(raf_db: Path) -> None:
    found = load("raf_db", raf_db.parent, "train")

    assert [found.classes[label] for label in found.labels] == ["sadness", "surprise"]
    assert found.classes == CLASS_ORDERS["raf_db"]
    assert found.remark is not None
    assert found.remark.startswith("raf_db train has 12271 images, this copy 2: surprise 1 of 1290, fear 0 of 281")
    assert found.read(0).mean() == pytest.approx(200, abs=2)
    assert load("raf_db", raf_db, "test").labels.tolist() == [0]


def test_raf_db_in_the_authors_folders(tmp_path: Path) -> None:
    _draw(tmp_path / "train/0/a.jpg")
    _draw(tmp_path / "train/6/b.jpg")

    found = load("raf_db", tmp_path, "train")

    assert [found.classes[label] for label in found.labels] == ["neutral", "anger"]


def test_raf_db_in_folders_numbered_as_in_the_owners_list(tmp_path: Path) -> None:
    for number in (1, 7):
        _draw(tmp_path / f"train/{number}/a.jpg")

    found = load("raf_db", tmp_path, "train")

    assert [found.classes[label] for label in found.labels] == ["surprise", "neutral"]
    _draw(tmp_path / "train/0/a.jpg")
    with pytest.raises(DatasetError, match="has folders 0 and 7"):
        load("raf_db", tmp_path, "train")


def test_a_byte_order_mark_is_no_part_of_a_list(raf_db: Path, tmp_path: Path) -> None:
    listing = raf_db / "basic/EmoLabel/list_patition_label.txt"
    listing.write_text(listing.read_text(), encoding="utf-8-sig")
    assert len(load("raf_db", raf_db, "train")) == 2

    table = tmp_path / "fer/fer2013.csv"
    table.parent.mkdir()
    _fer2013(table.parent)
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
    _draw(tmp_path / "folders/train/happy/a.jpg")
    with pytest.raises(DatasetError, match=r"list\.txt is not UTF-8 text"):
        load("folders", tmp_path / "folders", "train").only_listed(listed)


def test_hidden_files_are_ignored_and_a_jfif_is_read(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.png"):
        _draw(tmp_path / "train/happy" / name)
    Image.new("RGB", (20, 20)).save(tmp_path / "train/happy/c.jfif", "JPEG")
    (tmp_path / "train/happy/._a.jpg").write_text("a resource fork")
    (tmp_path / "train/.ipynb_checkpoints").mkdir()
    _draw(tmp_path / "__MACOSX/train/sad/._a.jpg")

    found = load("folders", tmp_path, "train")

    assert [path.name for path in found.paths] == ["a.jpg", "b.png", "c.jfif"]


def test_images_in_a_folder_of_a_class_folder_are_not_missed_in_silence(tmp_path: Path) -> None:
    _draw(tmp_path / "train/happy/a.jpg")
    _draw(tmp_path / "train/happy/more/b.jpg")
    with pytest.raises(DatasetError, match="happy contains 1 folders, the first more; images must be directly in it"):
        load("folders", tmp_path, "train")
    for person in ("ann", "bob"):
        _draw(tmp_path / "people" / person / "2020/a.jpg")
    with pytest.raises(DatasetError, match="ann contains 1 folders, the first 2020"):
        load("identities", tmp_path / "people", "train")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_that_the_service_reads_is_read(tmp_path: Path, suffix: str) -> None:
    _draw(tmp_path / "train/happy/a.png")
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
    _draw(tmp_path / full / "a.png")
    (tmp_path / empty).mkdir()
    (tmp_path / empty / "a.txt").write_text("no image")

    with pytest.raises(DatasetError, match=f"{empty} contains no image that is read"):
        load(name, tmp_path, split)


def test_files_that_are_passed_over_are_counted_by_suffix(tmp_path: Path) -> None:
    for image in ("happy/a.png", "sad/a.png", "lost.PNG"):
        _draw(tmp_path / "train" / image)
    for file in ("happy/a.txt", "sad/b.TXT", "sad/README", "sad/.DS_Store", "labels.csv"):
        (tmp_path / "train" / file).write_text("no image")

    assert load("folders", tmp_path, "train").remark == (
        f"{tmp_path / 'train'}: 5 files are not read: directly in it .csv 1, .png 1; "
        "in its folders without suffix 1, .txt 2"
    )


def test_what_else_is_passed_over_is_counted_too(tmp_path: Path) -> None:
    for image in ("sfew/Train/Train_Aligned_Faces/Happy/a.png", "people/ann/a.png", "people/bob/a.png"):
        _draw(tmp_path / image)
    _draw(tmp_path / "raf/train/0/a.png")
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


AFFECTNET_COLUMNS = (
    "subDirectory_filePath",
    "face_x",
    "face_y",
    "face_width",
    "face_height",
    "facial_landmarks",
    "expression",
    "valence",
    "arousal",
)


@pytest.fixture
def affectnet_csv(tmp_path: Path) -> Path:
    """Photographs of which one corner is the face: anger, contempt, and one that counts for nothing."""
    rows = [[f"1/{i}.jpg", 4, 6, 10, 12, "", expression, 0, 0] for i, expression in enumerate((6, 7, 8))]
    _write(tmp_path / "training.csv", AFFECTNET_COLUMNS, rows)
    for i in range(3):
        photo = Image.new("RGB", (40, 40), "black")
        photo.paste("white", (4, 6, 14, 18))
        (tmp_path / "Manually_Annotated_Images/1").mkdir(parents=True, exist_ok=True)
        photo.save(tmp_path / f"Manually_Annotated_Images/1/{i}.jpg", quality=95)
    return tmp_path


def test_affectnet_by_its_csv_crops_the_faces(affectnet_csv: Path) -> None:
    eight = load("affectnet8", affectnet_csv, "train")
    seven = load("affectnet7", affectnet_csv, "train")

    assert [eight.classes[label] for label in eight.labels] == ["anger", "contempt"]
    assert [seven.classes[label] for label in seven.labels] == ["anger"]
    assert eight.read(0).shape == (12, 10, 3)
    assert eight.read(0).mean() > 230
    assert eight.remark is not None
    assert "has 287651 images" in eight.remark
    assert seven.remark is not None
    assert "has 283901 images" in seven.remark


def test_affectnet_refuses_a_face_outside_its_image(affectnet_csv: Path) -> None:
    _write(affectnet_csv / "training.csv", AFFECTNET_COLUMNS, [["1/0.jpg", 90, 6, 10, 12, "", 6, 0, 0]])

    with pytest.raises(DatasetError, match="is outside the image"):
        load("affectnet7", affectnet_csv, "train").read(0)


def test_affectnet_in_npy_files(tmp_path: Path) -> None:
    for name, label in (("12", 3), ("7", 7), ("8", 9)):
        _draw(tmp_path / f"train_set/images/{name}.jpg")
        (tmp_path / "train_set/annotations").mkdir(parents=True, exist_ok=True)
        # The owners ship the number as text in an array without dimensions.
        np.save(tmp_path / f"train_set/annotations/{name}_exp.npy", np.array(str(label)))

    found = load("affectnet8", tmp_path, "train")

    assert [(path.stem, found.classes[label]) for path, label in zip(found.paths, found.labels, strict=True)] == [
        ("12", "surprise"),
        ("7", "contempt"),
    ]


@pytest.mark.parametrize("place", ["inf", "-inf", "nan", "1e999", "x", ""])
def test_affectnet_refuses_a_face_at_no_place(affectnet_csv: Path, place: str) -> None:
    _write(affectnet_csv / "training.csv", AFFECTNET_COLUMNS, [["1/0.jpg", place, 6, 10, 12, "", 6, 0, 0]])

    with pytest.raises(DatasetError, match=r"training\.csv, line 2: "):
        load("affectnet7", affectnet_csv, "train")


@pytest.mark.parametrize("label", ["-1", "happy", -1, [1, 2], 3.7, -0.5, np.inf, np.nan, True, np.longdouble("3.5")])
def test_affectnet_refuses_what_is_no_label(tmp_path: Path, label: object) -> None:
    _draw(tmp_path / "train_set/images/1.jpg")
    (tmp_path / "train_set/annotations").mkdir(parents=True)
    np.save(tmp_path / "train_set/annotations/1_exp.npy", np.array(label))

    with pytest.raises(DatasetError, match=r"1_exp\.npy contains no label"):
        load("affectnet8", tmp_path, "train")
    for content in (b"", b"PK\3\4 no archive"):
        (tmp_path / "train_set/annotations/1_exp.npy").write_bytes(content)
        with pytest.raises(DatasetError, match=r"1_exp\.npy contains no label"):
            load("affectnet8", tmp_path, "train")


@pytest.mark.parametrize("label", ["3", b"3", 3, 3.0, [3]])
def test_affectnet_reads_a_label_of_any_type(tmp_path: Path, label: object) -> None:
    _draw(tmp_path / "train_set/images/1.jpg")
    (tmp_path / "train_set/annotations").mkdir(parents=True)
    np.save(tmp_path / "train_set/annotations/1_exp.npy", np.array(label))
    (tmp_path / "train_set/annotations/._1_exp.npy").write_text("a resource fork")

    assert load("affectnet8", tmp_path, "train").labels.tolist() == [3]


def test_affectnet_refuses_a_label_below_0_in_its_csv(affectnet_csv: Path) -> None:
    _write(affectnet_csv / "training.csv", AFFECTNET_COLUMNS, [["1/0.jpg", 4, 6, 10, 12, "", -1, 0, 0]])

    with pytest.raises(DatasetError, match="line 2: expected an expression of 0 or more, found -1"):
        load("affectnet8", affectnet_csv, "train")


def test_caer_s_must_be_prepared(tmp_path: Path) -> None:
    _draw(tmp_path / "train/Happy/0001.png")
    _draw(tmp_path / "train/Sad/0001.png")
    with pytest.raises(DatasetError, match="whole images, not faces"):
        load("caer_s", tmp_path, "train")

    (tmp_path / "prepared.json").write_text("{}")
    found = load("caer_s", tmp_path, "train")

    assert [found.classes[label] for label in found.labels] == ["happiness", "sadness"]
    assert found.remark == "caer_s train has 48995 images, this copy 2"


def test_sfew(tmp_path: Path) -> None:
    _draw(tmp_path / "Train/Train_Aligned_Faces/Angry/a.png", size=(143, 181))
    _draw(tmp_path / "Val/Val_Aligned_Faces/Surprise/b.png", size=(143, 181))

    assert load("sfew", tmp_path, "train").labels.tolist() == [CLASS_ORDERS["sfew"].index(Expression.ANGER)]
    assert load("sfew", tmp_path, "valid").read(0).shape == (181, 143, 3)


def test_any_folders_have_the_classes_that_are_there(tmp_path: Path) -> None:
    for name in ("angry", "Happiness", "neutral"):
        _draw(tmp_path / "train" / name / "a.png")

    assert load("folders", tmp_path, "train").classes == ("neutral", "happiness", "anger")
    _draw(tmp_path / "train/bored/a.png")
    with pytest.raises(DatasetError, match="bored is not named after an expression"):
        load("folders", tmp_path, "train")


def test_every_split_of_any_folders_is_numbered_by_the_training_classes(tmp_path: Path) -> None:
    for place in ("train/happy", "train/sad", "train/fear", "valid/sad", "valid/fear", "test/happy"):
        _draw(tmp_path / place / "a.png")

    train, valid, test = (load("folders", tmp_path, split) for split in SPLITS)

    assert train.classes == valid.classes == test.classes == ("happiness", "sadness", "fear")
    assert [valid.classes[label] for label in valid.labels] == ["fear", "sadness"]
    assert [test.classes[label] for label in test.labels] == ["happiness"]


def test_a_split_with_a_class_that_the_training_split_lacks_is_refused(tmp_path: Path) -> None:
    for place in ("train/happy", "train/sad", "valid/sad", "valid/angry"):
        _draw(tmp_path / place / "a.png")

    with pytest.raises(DatasetError, match=r"valid has the classes sadness, anger; .*train has happiness, sadness;"):
        load("folders", tmp_path, "valid")


def test_a_split_alone_has_its_own_classes(tmp_path: Path) -> None:
    for name in ("happy", "angry"):
        _draw(tmp_path / "test" / name / "a.png")

    assert load("folders", tmp_path, "test").classes == ("happiness", "anger")


def test_a_class_that_a_set_does_not_have(tmp_path: Path) -> None:
    _draw(tmp_path / "Train/Train_Aligned_Faces/Contempt/a.png")

    with pytest.raises(DatasetError, match="other classes: contempt"):
        load("sfew", tmp_path, "train")


def test_fed_ro_trains_on_two_sets(raf_db: Path, affectnet_csv: Path) -> None:
    _draw(affectnet_csv / "FED-RO/happy/a.jpg")

    found = load("fed_ro", affectnet_csv, "train")

    assert [found.classes[label] for label in found.labels] == ["anger", "sadness", "surprise"]
    assert [found.read(i).shape for i in range(3)] == [(12, 10, 3), (24, 20, 3), (24, 20, 3)]
    assert load("fed_ro", affectnet_csv, "test").labels.tolist() == [1]


def test_identities_hold_out_one_in_twenty(tmp_path: Path) -> None:
    for person in ("n000002", "n000003"):
        for i in range(21):
            _draw(tmp_path / person / f"{i:04}.jpg")

    train, valid = load("identities", tmp_path, "train"), load("identities", tmp_path, "valid")

    assert train.classes == ("n000002", "n000003")
    assert np.bincount(train.labels).tolist() == [20, 20]
    assert [path.name for path in valid.paths] == ["0019.jpg", "0019.jpg"]


def _fer2013(path: Path) -> None:
    pixels = [" ".join([str(20 * i)] * 48 * 48) for i in range(3)]
    rows = [[3, pixels[0], "Training"], [6, pixels[1], "PublicTest"], [0, pixels[2], "Training"]]
    _write(path / "fer2013.csv", ("emotion", "pixels", "Usage"), rows)


def test_fer2013(tmp_path: Path) -> None:
    _fer2013(tmp_path)

    found = load("fer2013", tmp_path, "train")

    assert [found.classes[label] for label in found.labels] == ["happiness", "anger"]
    assert found.read(1).shape == (48, 48, 3)
    assert found.read(1).mean() == 40
    assert found.remark == "fer2013 train has 28709 images, this copy 2"


@pytest.mark.parametrize(("pixels", "complaint"), [("1 2", "found 2"), ("x " * 2304, "line 2"), ("300 " * 2304, "300")])
def test_fer2013_names_a_broken_row(tmp_path: Path, pixels: str, complaint: str) -> None:
    _write(tmp_path / "fer2013.csv", ("emotion", "pixels", "Usage"), [[3, pixels, "Training"]])

    with pytest.raises(DatasetError, match=complaint):
        load("fer2013", tmp_path, "train")


def test_fer2013_by_the_challenge_s_name_with_blanks_in_its_header(tmp_path: Path) -> None:
    _fer2013(tmp_path)
    table = tmp_path / "fer2013.csv"
    table.write_text(table.read_text().replace("emotion,pixels,Usage", "emotion, pixels, Usage"))
    table.rename(tmp_path / "icml_face_data.csv")

    assert len(load("fer2013", tmp_path, "train")) == 2
    rows = [["Training", f"{i}.png", 9, *[0] * 9] for i in range(3)]
    rows[1][0] = "PublicTest"
    _write(tmp_path / "fer2013new.csv", VOTES, rows)
    assert len(load("ferplus", tmp_path, "train")) == 2


def test_blanks_around_the_values_of_a_table_are_no_part_of_them(tmp_path: Path) -> None:
    _fer2013(tmp_path)
    table = tmp_path / "fer2013.csv"
    table.write_text(table.read_text().replace(",", ", ").replace("\n", " \n"))
    rows = [[usage, f" {usage}.png", 9, *[0] * 9] for usage in ("Training", "PublicTest ", " Training")]
    _write(tmp_path / "fer2013new.csv", VOTES, rows)

    found = load("fer2013", tmp_path, "train")
    assert [found.classes[label] for label in found.labels] == ["happiness", "anger"]
    assert [path.name for path in load("ferplus", tmp_path, "train").paths] == ["Training.png", "Training.png"]


@pytest.mark.parametrize("usage", ["training", "Train", ""])
def test_a_usage_that_is_none_of_the_three_is_named(tmp_path: Path, usage: str) -> None:
    _fer2013(tmp_path)
    table = tmp_path / "fer2013.csv"
    table.write_text(table.read_text().replace("Training", usage))
    complaint = f"line 2: expected the Usage Training, PublicTest or PrivateTest, found '{usage}'"
    with pytest.raises(DatasetError, match=rf"fer2013\.csv, {complaint}"):
        load("fer2013", tmp_path, "valid")

    rows = [[name, "a.png", 9, *[0] * 9] for name in (usage, "PublicTest", usage)]
    _write(tmp_path / "fer2013new.csv", VOTES, rows)
    with pytest.raises(DatasetError, match=rf"fer2013new\.csv, {complaint}"):
        load("ferplus", tmp_path, "valid")
    table.unlink()
    with pytest.raises(DatasetError, match=rf"fer2013new\.csv, {complaint}"):
        load("ferplus", tmp_path, "valid")


def test_a_table_without_a_split_says_so(tmp_path: Path) -> None:
    _fer2013(tmp_path)
    _write(tmp_path / "fer2013new.csv", VOTES, [["Training", "a.png", 9, *[0] * 9]])

    with pytest.raises(DatasetError, match=r"fer2013\.csv contains no images of this split"):
        load("fer2013", tmp_path, "test")
    (tmp_path / "fer2013.csv").unlink()
    with pytest.raises(DatasetError, match=r"FER2013Test contains no images of this split"):
        load("ferplus", tmp_path, "test")


@pytest.mark.parametrize(
    ("vote", "complaint"),
    [
        ("x", "line 2: a vote is not a number"),
        ("", "not a number"),
        ("-1", "line 2: expected votes"),
        ("inf", "line 2: expected votes"),
        ("nan", "line 2: expected votes"),
        ("1e39", "line 2: expected votes"),
    ],
)
def test_ferplus_names_the_row_of_a_vote_that_is_none(tmp_path: Path, vote: str, complaint: str) -> None:
    _fer2013(tmp_path)
    _write(tmp_path / "fer2013new.csv", VOTES, [["Training", "a.png", vote, *[1] * 9]])
    with pytest.raises(DatasetError, match=complaint):
        load("ferplus", tmp_path, "train")
    _write(tmp_path / "fer2013new.csv", VOTES, [["Training", "a.png", 9]])
    with pytest.raises(DatasetError, match="line 2: fewer fields than columns"):
        load("ferplus", tmp_path, "train")


VOTES = ("Usage", "Image name", *CLASS_ORDERS["ferplus"], "unknown", "NF")


def test_ferplus_from_the_two_tables(tmp_path: Path) -> None:
    _fer2013(tmp_path)
    rows = [
        ["Training", "", *[0] * 9, 10],
        ["PublicTest", "fer0000001.png", 9, 1, *[0] * 8],
        ["Training", "fer0000002.png", 0, 0, 0, 0, 9, 0, 0, 0, 0, 1],
    ]
    _write(tmp_path / "fer2013new.csv", VOTES, rows)

    found = load("ferplus", tmp_path, "train")

    assert [path.name for path in found.paths] == ["fer0000002.png"]
    assert [found.classes[label] for label in found.labels] == ["anger"]
    assert found.read(0).mean() == 40

    _write(tmp_path / "fer2013new.csv", VOTES, rows[1:])
    with pytest.raises(DatasetError, match="differ at line 2"):
        load("ferplus", tmp_path, "train")


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
    _draw(tmp_path / "train/happy/a.tif")
    found = load("folders", tmp_path, "train")
    [path] = found.paths

    with Image.open(path) as image:
        assert np.array_equal(found.read(0), np.asarray(image.convert("RGB")))
    path.write_bytes((whole := path.read_bytes())[: len(whole) * 3 // 4])
    with pytest.raises(DatasetError, match=r"a\.tif cannot be read"):
        found.read(0)


def test_a_png_broken_in_any_way_is_named(tmp_path: Path) -> None:
    _draw(tmp_path / "train/happy/a.png", size=(64, 64))
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
        _draw(tmp_path / f"test/happiness/test_{number:04}_aligned.png")
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
