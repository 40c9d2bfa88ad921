// Drawings are written in Mermaid, which JupyterLab and code forges draw by themselves.
document.addEventListener("DOMContentLoaded", async () => {
  const blocks = document.querySelectorAll(".highlight-mermaid pre, pre.mermaid");
  for (const block of blocks) {
    const drawing = document.createElement("div");
    drawing.className = "mermaid";
    drawing.textContent = block.textContent;
    block.closest(".highlight-mermaid")?.replaceWith(drawing) ?? block.replaceWith(drawing);
  }
  if (blocks.length) {
    const dark = document.documentElement.dataset.theme === "dark";
    mermaid.initialize({ startOnLoad: false, theme: dark ? "dark" : "default" });
    await mermaid.run();
  }
  // The files of a run lie where the notebook runs, and are no part of the site.
  for (const link of document.querySelectorAll(".cell_output a[href*='Results/']")) {
    link.replaceWith(link.textContent);
  }
  // Its items are no list items, as a reader of the screen would be told.
  document.querySelectorAll(".citation-list").forEach((list) => list.removeAttribute("role"));
  // Tables and code that scroll can be reached by the keyboard.
  for (const part of document.querySelectorAll(".bd-article table, .bd-article pre")) {
    if (part.scrollWidth > part.clientWidth) part.tabIndex = 0;
  }
});
