import numpy as np
import pytest
from PIL import Image, ImageEnhance

from sf2cli.data.degrade import Degrade, degrade
from tests.pictures import noise

SIZE, SAMPLES = 20, 800


SOFT = np.array(Image.fromarray(noise(4, 4, 3, seed=3) // 3 + 60).resize((SIZE, SIZE)))


def soft(channels=3):
    """Between 60 and 150, so that few changes clip."""
    return SOFT[:, :, :channels].copy()


def changed(chances, channels=3, samples=SAMPLES, seed=0, epoch=0):
    for sample in range(samples):
        pixels = soft(channels)
        degrade(pixels, chances, seed, epoch, sample)
        yield pixels


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("change", ["crop", "low_resolution", "jitter"])
def test_a_change_happens_as_often_as_is_said(change, channels):
    assert not Degrade()
    counts = []
    for chance in (0, 0.2, 1):
        found = changed(Degrade(**{change: chance}), channels)
        counts.append(sum((pixels != soft(channels)).any() for pixels in found))
    never, sometimes, always = counts
    assert never == 0
    # Five standard deviations; a change may be too small to see.
    assert abs(sometimes - 0.2 * SAMPLES) < 5 * (0.16 * SAMPLES) ** 0.5 + 0.02 * SAMPLES
    assert always > 0.95 * SAMPLES


def test_changes_belong_to_seed_epoch_and_sample_and_not_to_each_other():
    every = Degrade(0.5, 0.5, 0.5)
    first = list(changed(every, samples=40))
    assert all((a == b).all() for a, b in zip(first, changed(every, samples=40), strict=True))
    for other in ({"seed": 1}, {"epoch": 1}):
        again = changed(every, samples=40, **other)
        assert any((a != b).any() for a, b in zip(first, again, strict=True))
    # Together they are one after the other, each as it is alone.
    for sample, together in enumerate(first):
        pixels = soft()
        for alone in (Degrade(crop=0.5), Degrade(low_resolution=0.5), Degrade(jitter=0.5)):
            degrade(pixels, alone, 0, 0, sample)
        np.testing.assert_array_equal(pixels, together)


def test_a_crop_leaves_a_rectangle_in_its_place():
    areas, ratios = [], []
    for pixels in changed(Degrade(crop=1)):
        rows, columns = np.flatnonzero(pixels.any((1, 2))), np.flatnonzero(pixels.any((0, 2)))
        box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        expected = np.zeros_like(pixels)
        expected[box] = soft()[box]
        assert (pixels == expected).all()
        areas.append(len(rows) * len(columns) / SIZE**2)
        ratios.append(len(columns) / len(rows))
    assert 0.17 < min(areas) < 0.25
    assert 0.55 < np.mean(areas) < 0.65
    assert 0.65 < min(ratios) < 0.8 < 1.25 < max(ratios) < 1.5


def test_low_resolution_loses_detail_and_keeps_the_mean():
    def detail(pixels):
        return np.abs(np.diff(pixels.astype(float), axis=1)).mean()

    losses = []
    for sample in range(400):
        pixels = noise(SIZE, SIZE, seed=sample)
        before = pixels.astype(float)
        degrade(pixels, Degrade(low_resolution=1), 0, 0, sample)
        losses.append(detail(pixels) / detail(before))
        # An odd sample may hit the dark pixels more often.
        assert abs(pixels.mean() - before.mean()) < 40
    assert min(losses) < 0.1 < np.median(losses) < 0.6
    assert max(losses) > 0.9


def test_jitter_is_pillows_with_the_same_factors():
    """The oracle: Pillow's enhancers, whose factors follow from the draws."""
    for sample in range(200):
        bits = np.random.PCG64([0, 0, 3, sample]).random_raw(14)
        light, contrast, colour = 0.5 + (bits[10:13] >> np.uint64(11)) / 2**53
        image = Image.fromarray(soft())
        image = ImageEnhance.Brightness(image).enhance(light)
        # Where Pillow clips first, it differs.
        kept = np.asarray(image) < 255
        image = ImageEnhance.Contrast(image).enhance(contrast)
        expected = np.asarray(ImageEnhance.Color(image).enhance(colour)).astype(int)
        pixels = soft()
        degrade(pixels, Degrade(jitter=1), 0, 0, sample)
        # Pillow rounds the mean and every step down.
        assert np.abs(pixels - expected)[kept].max() <= 4
