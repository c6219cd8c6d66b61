"""The yardstick of a step: which of two counts, whatever the machine reaches."""

import torch

from sf2cli.scaling.products import tile_product_rate


class _Instant:
    block_rows = 128

    def only_products(self, inputs, blocks):
        assert inputs.shape == (8, 32)
        assert blocks > 0


def test_the_faster_of_the_two_products_counts():
    def rate(fused):
        return tile_product_rate(8, 32, 64, torch.float32, torch.device("cpu"), fused)

    no_machine = 1e13
    assert 0 < rate(None) < no_machine < rate(_Instant())
