"""Tables of numbers: a CSV file of vectors, and a table of attributes that lies beside images."""

import csv
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, UsageError
from ..random import Stream
from .dataset import Dataset, train_test_split

ATTRIBUTES = "list_attr_celeba.txt"  # CelebA's: a line with the count, a line with the names, then `file  1 -1 ...`


def load_csv(path: Path, standardize: bool = False, label: str | None = None) -> Dataset:
    """A CSV file with a header, a row an example.  `label` names the column that is a class, whose values are named in their order; all
    others are numbers.  A tenth of the rows is kept for the test by a fixed shuffle."""
    header, rows = _rows(path)
    if label is not None and label not in header:
        raise UsageError(f"{path} has no column {label!r}; its columns are {', '.join(header)}")
    at = None if label is None else header.index(label)
    columns = [i for i in range(len(header)) if i != at]
    table = np.empty((len(rows), len(columns)), np.float64)
    for n, row in enumerate(rows):
        for k, i in enumerate(columns):
            try:
                table[n, k] = float(row[i])
            except ValueError:
                way = f"choose it as the class with --label-column {header[i]}, or leave the column out"
                raise DataError(f"{path}, row {n + 2}, column {header[i]}: {row[i]!r} is no number; {way}") from None
    labels, names = (None, ()) if at is None else classes([row[at] for row in rows])
    split = train_test_split(vectors(table, str(path)), labels, Stream(0).split("images"))
    return finished(path.name, *split, names=names, standardize=standardize, columns=[header[i] for i in columns])


def _rows(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header, *rows = [row for row in csv.reader(file) if row] or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no readable CSV file: {error}") from error
    if not header or not rows:
        raise DataError(f"{path} has {len(rows)} rows under its header; need a header and at least 2 rows")
    for n, row in enumerate(rows):
        if len(row) != len(header):
            raise DataError(f"{path}, row {n + 2}: {len(row)} values, and the header names {len(header)} columns; need as many")
    return header, rows


def vectors(array: np.ndarray, name: str) -> np.ndarray:
    """-> (N, D) float32"""
    if array.dtype.kind not in "fiub":
        raise DataError(f"{name} has dtype {array.dtype}; need numbers")
    wide = array.astype(np.float64)
    if not np.isfinite(wide).all():
        n, d = np.argwhere(~np.isfinite(wide))[0]
        raise DataError(
            f"{name} holds {int((~np.isfinite(wide)).sum())} values that are not finite, the first in row {n}, column {d}; fill them in"
        )
    return wide.astype(np.float32)


def finished(
    name: str,
    train: np.ndarray,
    train_labels: np.ndarray | None,
    test: np.ndarray,
    test_labels: np.ndarray | None,
    names: tuple[str, ...] = (),
    standardize: bool = False,
    columns: list[str] | None = None,
) -> Dataset:
    """The Dataset, its vectors less the mean of the training part and over its standard deviation if that is asked for."""
    prepared: dict[str, Any] = {} if columns is None else {"columns": columns}
    note = ""
    if standardize:
        if train.dtype != np.float32:
            raise UsageError(f"{name} holds bytes, which are taken as pixels from 0 to 1; standardize is for vectors of numbers")
        mean, sd = train.mean(axis=0, dtype=np.float64), train.std(axis=0, dtype=np.float64)
        constant = int((sd == 0).sum())
        sd[sd == 0] = 1
        train, test = (((part - mean) / sd).astype(np.float32) for part in (train, test))
        prepared |= {"mean": mean.tolist(), "sd": sd.tolist()}
        note = "standardized by the mean and the standard deviation of the training part"
        note += f"; {constant} of {len(sd)} columns are constant, and only centred" if constant else ""
    return Dataset(name, train, train_labels, test, test_labels, names, note, preparation=prepared)


def classes(values: list[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels 0, 1, ... of the values, in the order of their names; of numbers in that of their size."""
    try:
        names = sorted(set(values), key=float)
    except ValueError:
        names = sorted(set(values))
    number = {value: i for i, value in enumerate(names)}
    return np.array([number[value] for value in values], np.int64), tuple(names)


def attributes_beside(folder: Path, paths: list[Path], label: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """The labels that a table gives each image: CelebA's list_attr_celeba.txt, or the one CSV file, in the folder or beside it; its first
    column is the file's name."""
    found = [file for place in (folder, folder.parent) for file in (place / ATTRIBUTES, *sorted(place.glob("*.csv"))) if file.is_file()]
    if not found:
        raise DataError(
            f"{folder} has no table of attributes, {ATTRIBUTES} or a CSV file, and the label is {label!r}; put one beside the images"
        )
    header, rows = celeba(found[0]) if found[0].name == ATTRIBUTES else _rows(found[0])
    if label not in header[1:]:
        raise UsageError(f"{found[0]} has no column {label!r}; its columns are {', '.join(header[1:])}")
    at = header.index(label)
    of = {row[0]: row[at] for row in rows}
    missing = [p for p in paths if p.name not in of and p.as_posix() not in of]
    if missing:
        raise DataError(
            f"{found[0]} has no row for {missing[0]} (and {len(missing) - 1} more of {len(paths)} images); its first column is the name"
        )
    return classes([of.get(p.as_posix(), of.get(p.name, "")) for p in paths])


def numbers_beside(folder: Path, paths: list[Path]) -> tuple[dict[str, np.ndarray], str]:
    """All columns of CelebA's list_attr_celeba.txt, in the folder of images or beside it, for each image, and a note.     {name: (N,)}

    Without the table there are none, and none where it lacks an image, which the note says.
    """
    file = next((place / ATTRIBUTES for place in (folder, folder.parent) if (place / ATTRIBUTES).is_file()), None)
    if file is None:
        return {}, ""
    header, rows = celeba(file)
    of = {row[0]: row[1:] for row in rows}
    missing = [p for p in paths if p.name not in of]
    if missing:
        return {}, f"{file} is left aside, as it has no row for {missing[0]} and {len(missing) - 1} more of {len(paths)} images"
    try:
        table = np.array([of[p.name] for p in paths], np.int64)
    except ValueError as error:
        raise DataError(f"{file}: the attributes are 1 and -1 ({error}); use another copy") from error
    return dict(zip(header[1:], table.T, strict=True)), f"{table.shape[1]} attributes of {file.name}"


def celeba(path: Path) -> tuple[list[str], list[list[str]]]:
    """(names, rows) of list_attr_celeba.txt."""
    lines = path.read_text("utf-8").splitlines()
    try:
        count, header, rows = int(lines[0]), ["file", *lines[1].split()], [line.split() for line in lines[2:] if line.strip()]
    except (IndexError, ValueError) as error:
        raise DataError(f"{path} is no table of attributes: its first line is a count, its second the names ({error})") from error
    if len(rows) != count or any(len(row) != len(header) for row in rows):
        raise DataError(f"{path} says {count} rows of {len(header)} values and has {len(rows)}; use another copy")
    return header, rows
