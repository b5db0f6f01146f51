/**
 * Formulas as MathML, which browsers set themselves: no fonts to send along. Loaded when the first formula is shown.
 *
 * Temml builds elements, no HTML; what it may not build is taken out again, because a formula is a stranger's text too.
 */

import temml from "temml/dist/temml.min.js";

const ATTRIBUTES = new Set(
  (
    "xmlns display displaystyle scriptlevel mathvariant stretchy fence form separator lspace rspace minsize maxsize " +
    "symmetric largeop movablelimits accent accentunder linethickness width height depth voffset columnalign rowspacing " +
    "columnspacing columnlines rowlines rowalign columnspan rowspan notation mathcolor mathbackground mathsize encoding class"
  ).split(" "),
);

/** Put the formula into `element`; return whether it could be read. */
export function draw(formula, element, display) {
  const made = document.createElement("span");
  try {
    temml.render(formula, made, {
      displayMode: display,
      throwOnError: true,
      trust: false,
      maxSize: [20, 10],
      maxExpand: 200,
      strict: false,
    });
  } catch {
    return false;
  }
  for (const node of made.querySelectorAll("*")) {
    if (!(node instanceof MathMLElement)) node.replaceWith(node.textContent);
    else
      for (const { name } of [...node.attributes])
        if (!ATTRIBUTES.has(name) && name !== "style") node.removeAttribute(name);
  }
  element.replaceChildren(...made.childNodes);
  return true;
}
