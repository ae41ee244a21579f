// Faults that keep people out, in the manner of axe-core: a list of "rule: element" for the page as it is.
() => {
  const faults = [];
  const fault = (rule, node) => faults.push(`${rule}: ${node.outerHTML.slice(0, 120)}`);
  const visible = (node) => node.checkVisibility() && node.getClientRects().length > 0;
  const all = (selector) => [...document.querySelectorAll(selector)].filter(visible);
  const name = (node) => node.getAttribute("aria-label")
    || (node.getAttribute("aria-labelledby") || "").split(" ").map((id) => document.getElementById(id)?.textContent || "").join("")
    || [...(node.labels || [])].map((label) => label.textContent).join("") || node.textContent;

  for (const node of all("button, a[href], input:not([type=hidden]), textarea, select, dialog, section, [role=slider], [role=region]"))
    if (!name(node).trim()) fault("name", node);
  for (const node of document.querySelectorAll("[aria-labelledby], [aria-describedby]"))
    for (const attribute of ["aria-labelledby", "aria-describedby"])
      for (const id of (node.getAttribute(attribute) || "").split(" ").filter(Boolean))
        if (!document.getElementById(id)) fault("reference", node);
  const ids = [...document.querySelectorAll("[id]")].map((node) => node.id);
  if (new Set(ids).size !== ids.length) faults.push("duplicate id");
  if (document.querySelectorAll("main").length !== 1) faults.push("one main");
  if (document.querySelectorAll("h1").length !== 1) faults.push("one h1");
  if (!document.documentElement.lang || !document.title) faults.push("language and title");
  if (document.querySelector("[tabindex]:not([tabindex='0'])")) faults.push("tabindex");
  for (const node of document.querySelectorAll("ul > :not(li), ol > :not(li), dl > :not(div):not(dt):not(dd)")) fault("list", node);
  for (const node of document.querySelectorAll("th:not([scope])")) fault("scope", node);
  for (const node of all("svg")) if (node.getAttribute("aria-hidden") !== "true") fault("image", node);
  if (document.getElementById("decision") && !document.querySelector("#said[aria-live=polite]")) faults.push("live");
  for (const node of all("[role=slider]"))
    if (![..."now min max"].length || isNaN(Number(node.getAttribute("aria-valuenow") ?? NaN))) fault("slider", node);
  for (const node of all("button")) { // WCAG 2.2, 2.5.8
    const box = node.getBoundingClientRect();
    if (box.height < 24 || box.width < 24) fault("target size", node);
  }

  // Contrast as WCAG 2 defines it, of each text with the nearest background.
  const paint = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (colour) => {
    paint.clearRect(0, 0, 1, 1);
    paint.fillStyle = colour;
    paint.fillRect(0, 0, 1, 1);
    return [...paint.getImageData(0, 0, 1, 1).data];
  };
  const light = (colour) => {
    const [r, g, b] = rgb(colour).slice(0, 3).map((part) => part / 255)
      .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (rgb(colour)[3] > 127) return colour;
    }
    return "white";
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !visible(node) || node.closest(".unseen, .leap, script")) continue;
    const pair = [light(getComputedStyle(node).color), light(behind(node))].sort((a, b) => b - a);
    const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
    if (ratio < 4.5) fault(`contrast ${ratio.toFixed(2)}`, node);
  }
  return faults;
}
