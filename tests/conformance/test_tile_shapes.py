"""Rows and columns of the register tiles: a stage's products share them, so each must have them."""

from itertools import combinations_with_replacement

import pytest

from minirnn.kernels import tile

TABLES = {
    16: ({1: 6, 2: 6, 3: 4}, 2, {1: 2}),
    32: ({1: 8, 2: 8, 3: 8, 4: 6}, 4, {1: 4, 2: 2}),
}


@pytest.mark.parametrize("registers", TABLES)
@pytest.mark.parametrize("units", [1, 2, 3, 4])
def test_every_product_of_a_stage_has_a_tile_of_its_shape(monkeypatch, registers, units):
    """Also for blocks 4, 3, 3, 3 of Greff's full gate recurrence: a tile of 3 is the lowest."""
    heights, widest, partial = TABLES[registers]
    monkeypatch.setattr(tile, "HEIGHTS", heights)
    monkeypatch.setattr(tile, "WIDEST", widest)
    monkeypatch.setattr(tile, "PARTIAL", partial)
    # A stage asks for tiles that are summed in parts.
    tiles = {(code - tile.IN_PARTS, rows) for codes, rows, *_ in tile._sizes() for code in codes}
    for count in range(1, 4):
        for members in combinations_with_replacement(range(1, 9), count):
            columns, rows = tile.shape_for(members, units)
            for part in (part for n in members for part in tile.cut(n)):
                for left in range(1, columns + 1):  # the last column may hold fewer unit blocks
                    assert (left * part, rows) in tiles, members


def test_the_tables_are_those_of_this_machine_or_of_another():
    assert (tile.HEIGHTS, tile.WIDEST, tile.PARTIAL) in TABLES.values()


def test_a_stage_without_products_has_a_shape():
    assert tile.shape_for((), 1)[0] == 1
