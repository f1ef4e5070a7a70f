"""Two small generators of handwritten digits: `train` trains, `measure` measures, `show` draws them for the gallery."""
