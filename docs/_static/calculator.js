// Output size of one axis of a transposed convolution, and what is wrong with the numbers, if something is.
function outputSize({ n, kernel, stride, low, high, dilation, more }) {
  for (const [name, value, least] of [["input", n, 1], ["kernel", kernel, 1], ["stride", stride, 1], ["padding", low, 0],
    ["padding", high, 0], ["dilation", dilation, 1], ["output padding", more, 0]]) {
    if (!Number.isInteger(value) || value < least) return { error: `${name} must be a whole number of at least ${least}` };
  }
  if (more >= Math.max(stride, dilation)) {
    return { error: `output padding must be smaller than the larger of stride and dilation, ${Math.max(stride, dilation)}` };
  }
  const size = (n - 1) * stride - low - high + dilation * (kernel - 1) + 1 + more;
  return size < 1 ? { error: `padding leaves no output: ${size}` } : { size };
}

if (typeof document === "undefined") {
  module.exports = { outputSize };
} else {
  for (const form of document.querySelectorAll("[data-calculator]")) {
    const show = () => {
      const values = Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, Number(value)]));
      const found = outputSize(values);
      form.querySelector("output").textContent = found.error || `output: ${found.size}`;
    };
    form.addEventListener("input", show);
    show();
  }
}
