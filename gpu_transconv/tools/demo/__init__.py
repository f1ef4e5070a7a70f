"""What ``gpu-transconv demo`` shows: `detect` computes it, `picture` reads a photograph, `draw` draws the pages."""
