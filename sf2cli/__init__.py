"""sf2: train and evaluate face-recognition models with SphereFace2."""
