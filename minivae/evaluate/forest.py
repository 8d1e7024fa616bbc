"""A random forest for regression: trees on bootstrap samples, their splits sought among quantiles.

L. Breiman, "Random forests", 2001, with every feature open to every split: nothing but the data decides which one is important.
"""

from dataclasses import dataclass

import numpy as np

from ..random import Stream

BINS = 64  # places to cut a feature


@dataclass
class Tree:
    """A binary tree in an array: node i has the children 2 i + 1 (feature's bin <= threshold) and 2 i + 2."""

    feature: np.ndarray  # (nodes,), -1 at a leaf
    threshold: np.ndarray  # (nodes,)
    value: np.ndarray  # (nodes, M)
    importance: np.ndarray  # (K,), by how much the splits on each feature reduced the squared error

    def predict(self, bins: np.ndarray) -> np.ndarray:
        """(N, K) -> (N, M)"""
        node, rows = np.zeros(len(bins), np.intp), np.arange(len(bins))
        while (inner := self.feature[node] >= 0).any():
            right = bins[rows, self.feature[node]] > self.threshold[node]
            node = np.where(inner, 2 * node + 1 + right, node)
        return self.value[node]


def grow(bins: np.ndarray, y: np.ndarray, weight: np.ndarray, depth: int, least: float) -> Tree:
    """The tree that takes, level by level, the split of each node that reduces the weighted squared error most.

    A split of the weight n = l + r and the sum of targets s = a + b reduces it by |a|^2 / l + |b|^2 / r - |s|^2 / n; for targets that are
    0 or 1 for each class, this is Gini's criterion.  No child weighs less than `least`.     bins (N, K) ints, y (N, M), weight (N,)
    """
    width, nodes = int(bins.max(initial=0)) + 1, 2 ** (depth + 1) - 1
    tree = Tree(np.full(nodes, -1), np.zeros(nodes, np.intp), np.zeros((nodes, y.shape[1])), np.zeros(bins.shape[1]))
    mean = np.average(y, axis=0, weights=weight)
    y = y - mean  # less cancellation
    negligible = 1e-9 * (weight[:, None] * y * y).sum()
    rows, node = np.flatnonzero(weight), np.zeros(len(bins), np.intp)
    for level in range(depth + 1):
        ids, local = np.unique(node[rows], return_inverse=True)
        w = weight[rows]
        columns = [w, *(w * column for column in y[rows].T)]
        total = np.stack([np.bincount(local, column, len(ids)) for column in columns], axis=1)  # weight and sums: (nodes here, 1 + M)
        tree.value[ids] = mean + total[:, 1:] / total[:, :1]
        if level == depth or not len(rows):
            break
        before = (total[:, 1:] ** 2).sum(axis=1) / total[:, 0]
        best, feature, threshold = np.full(len(ids), negligible), np.full(len(ids), -1), np.zeros(len(ids), np.intp)
        for k in range(bins.shape[1]):
            cell = local * width + bins[rows, k]
            table = np.stack([np.bincount(cell, column, len(ids) * width) for column in columns], axis=1)
            left = table.reshape(len(ids), width, -1).cumsum(axis=1)[:, :-1]
            right = total[:, None] - left
            allowed = (left[..., 0] >= least) & (right[..., 0] >= least)
            reached = ((side[..., 1:] ** 2).sum(axis=2) / np.where(allowed, side[..., 0], 1) for side in (left, right))
            gain = np.where(allowed, sum(reached) - before[:, None], 0)
            if gain.shape[1]:
                at = gain.argmax(axis=1)
                gain = gain[np.arange(len(ids)), at]
                better = gain > best
                best, feature, threshold = np.where(better, gain, best), np.where(better, k, feature), np.where(better, at, threshold)
        split = feature >= 0
        tree.feature[ids[split]], tree.threshold[ids[split]] = feature[split], threshold[split]
        np.add.at(tree.importance, feature[split], best[split])
        rows = rows[split[local]]
        node[rows] = 2 * node[rows] + 1 + (bins[rows, tree.feature[node[rows]]] > tree.threshold[node[rows]])
    return tree


def cuts(x: np.ndarray) -> np.ndarray:
    """Where to cut a feature: between all of its values, if they are few, else at quantiles.     (N,) -> at most BINS - 1 sorted numbers"""
    values = np.unique(x)
    if len(values) <= BINS:
        return values[:-1]
    ordered = np.sort(x)
    return np.unique(ordered[np.linspace(0, len(x) - 1, BINS + 1).astype(np.intp)[1:-1]])


def bootstraps(rng: Stream, trees: int, n: int) -> np.ndarray:
    """How often each of n examples is among n drawn with replacement, once for every tree.     -> (trees, n)"""
    drawn = (rng.uniform((trees, n)).astype(np.float64) * n).astype(np.intp)
    return np.stack([np.bincount(row, minlength=n) for row in drawn]).astype(np.float64)


@dataclass
class Forest:
    """The mean of one tree for each row of weights.     x (N, K), y (N, M), weights (trees, N)"""

    x: np.ndarray
    y: np.ndarray
    weights: np.ndarray
    depth: int = 10
    least: float = 5

    def __post_init__(self) -> None:
        self.edges = [cuts(column) for column in self.x.T]
        bins = self.bins(self.x)
        self.trees = [grow(bins, self.y, weight, self.depth, self.least) for weight in self.weights]

    def bins(self, x: np.ndarray) -> np.ndarray:
        return np.stack([np.searchsorted(edges, column) for edges, column in zip(self.edges, x.T, strict=True)], axis=1)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """(N, K) -> (N, M)"""
        bins = self.bins(x)
        return np.mean([tree.predict(bins) for tree in self.trees], axis=0)

    @property
    def importance(self) -> np.ndarray:
        """The share of each feature in the reduction of the squared error; zeros if there was none.     -> (K,)"""
        total = np.sum([tree.importance for tree in self.trees], axis=0)
        return total / (total.sum() or 1)
