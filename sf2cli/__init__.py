"""sf2: train and evaluate face-recognition models with SphereFace2."""

__version__ = "0.1.0"
