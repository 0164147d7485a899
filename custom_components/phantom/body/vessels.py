import numpy as np
from custom_components.phantom.body.anatomy import Anatomy
from custom_components.phantom.body.grid import Points
from custom_components.phantom.body.tubes import Tubes

LEAF_RADIUS_MM = 0.65
MURRAY_EXPONENT = 2.6


def grow_tree(root_mm: np.ndarray, leaves_mm: np.ndarray, rng: np.random.Generator, detour: float = 0.5) -> Tubes:
    """Tree of vessels from a root to all leaves, thick near the root and thin at the leaves.

    Leaves are connected in the order of their distance to the root, each to the node with the smallest sum of distance
    and ``detour`` times the path from that node to the root. Radii follow Murray's law: a piece that supplies n leaves
    has n^(1 / 2.6) times the radius of a leaf.

    Args:
        root_mm: (3,) position where the tree enters the lung.
        leaves_mm: (N, 3) ends of the branches.
        rng: random generator for the bends.
        detour: 0 gives the shortest tree, 1 a star.

    Returns:
        2 N tubes, since each branch has one bend.
    """
    order = np.argsort(np.linalg.norm(leaves_mm - root_mm, axis=1))
    nodes = np.empty((2 * len(order) + 1, 3))
    nodes[0], way, parent = root_mm, np.zeros(len(nodes)), np.full(len(nodes), -1)
    bends = rng.normal(scale=0.09, size=(len(order), 3))
    for step, leaf in enumerate(leaves_mm[order]):
        known = 2 * step + 1
        piece = np.sqrt(((nodes[:known] - leaf) ** 2).sum(axis=1))
        best = int(np.argmin(piece + detour * way[:known]))
        middle = (nodes[best] + leaf) / 2 + bends[step] * piece[best]
        nodes[known], nodes[known + 1] = middle, leaf
        parent[known], parent[known + 1] = best, known
        way[known], way[known + 1] = way[best] + piece[best] / 2, way[best] + piece[best]
    return Tubes(nodes[parent[1:]], nodes[1:], LEAF_RADIUS_MM * _fed_leaves(parent)[1:] ** (1 / MURRAY_EXPONENT))


def _fed_leaves(parent: np.ndarray) -> np.ndarray:
    """Number of leaves that each node supplies, from the parent of each node (parents come first)."""
    fed = np.zeros(len(parent))
    fed[2::2] = 1.0
    for node in range(len(parent) - 1, 0, -1):
        fed[parent[node]] += fed[node]
    return fed


def lung_vessels(anatomy: Anatomy, rng: np.random.Generator, leaves: int = 170) -> tuple[Tubes, Tubes]:
    """Arteries and veins of both lungs, from the hila to ``leaves`` ends of each tree."""
    arteries, veins = [], []
    for side in (-1.0, 1.0):
        root = np.array([side * 40.0, 8.0, 4.0])
        ends = points_in_lung(anatomy, rng, side, 2 * leaves)
        arteries.append(grow_tree(root, ends[:leaves], rng))
        veins.append(grow_tree(root + np.array([0.0, -12.0, -16.0]), ends[leaves:], rng))
    return Tubes.joined(arteries), Tubes.joined(veins)


def points_in_lung(anatomy: Anatomy, rng: np.random.Generator, side: float, count: int) -> np.ndarray:
    """Draw positions in one lung, 5 mm or more below its surface.

    Args:
        anatomy: measures of the patient.
        rng: random generator.
        side: -1 for the right lung, 1 for the left.
        count: number of positions.

    Returns:
        (count, 3) positions in mm; fewer if 8 attempts per position were not enough.
    """
    low, high = np.array([10.0, -100.0, -120.0]), np.array([130.0, 100.0, 120.0])
    tries = rng.uniform(low, high, size=(8 * count, 3)) * np.array([side, 1.0, 1.0])
    depth = anatomy.pleural_cavity(Points(*tries.T))
    return tries[depth > 5.0][:count]
