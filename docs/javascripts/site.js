// A table that is wider than its column scrolls. Let the keyboard reach it (WCAG 2.1.1).
const tables = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
    else target.removeAttribute("tabindex");
  }
});
// When Material's script has put each table into such a box.
document$.subscribe(() => {
  for (const each of document.querySelectorAll(".md-typeset__scrollwrap")) tables.observe(each);
});
