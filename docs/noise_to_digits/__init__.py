"""Two small generators of handwritten digits: trained by `train`, measured by `measure`, shown on a page of the gallery."""
