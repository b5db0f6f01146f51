/** Scroll a list of links, and nothing around it, until the one that is current can be seen. */
export function reveal(list) {
  const link = list?.querySelector("[aria-current]");
  if (!link) return;
  const [inner, outer] = [link.getBoundingClientRect(), list.getBoundingClientRect()];
  const beside = inner.left < outer.left || inner.right > outer.right;
  const above = inner.top < outer.top || inner.bottom > outer.bottom;
  list.scrollBy({ left: beside ? inner.left - outer.left : 0, top: above ? inner.top - outer.top : 0 });
}
