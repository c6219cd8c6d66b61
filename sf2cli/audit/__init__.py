"""What is wrong with a packed set: `sf2 audit`."""
