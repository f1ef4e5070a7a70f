// Sets every formula of the page with KaTeX; Sphinx writes them as \(...\) and \[...\].
document.addEventListener("DOMContentLoaded", () => {
  for (const element of document.querySelectorAll(".math")) {
    const [, open, formula] = element.textContent.trim().match(/^\\([([])([\s\S]*)\\[)\]]$/) || [];
    if (open) katex.render(formula, element, { displayMode: open === "[" });
  }
});
