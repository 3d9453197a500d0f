// What bertviz lacks: what is done to one model's view is done to the other's too, and tokens that are
// clicked keep their lines.
const roots = [...document.querySelectorAll('section > div')];
const kept = new Set(); // places of the clicked tokens
let echo = false; // true while an event is repeated in the other view

// The element at the same place of the other model's view
function twin(element) {
  const path = [];
  while (!roots.includes(element)) {
    path.push([...element.parentNode.children].indexOf(element));
    element = element.parentNode;
  }
  const other = roots[1 - roots.indexOf(element)];
  return path.reduceRight((at, i) => at && at.children[i], other);
}

function repeat(event) {
  if (echo || !roots.some(root => root.contains(event.target))) return;
  const other = twin(event.target);
  if (!other) return;
  if (event.type === 'change') other.selectedIndex = event.target.selectedIndex;
  echo = true;
  other.dispatchEvent(new Event(event.type, {bubbles: event.type !== 'mouseleave'}));
  echo = false;
}

const tokens = root => [...root.querySelectorAll('#left > g:last-child > g')];

function keep(event) {
  const clicked = tokens(event.target.closest('section')).indexOf(event.target.parentNode);
  if (!echo && event.type === 'click' && clicked >= 0) {
    if (kept.has(clicked)) kept.delete(clicked);
    else kept.add(clicked);
  }
  for (const root of roots) {
    root.classList.toggle('some', kept.size > 0);
    tokens(root).forEach((token, i) => token.classList.toggle('kept', kept.has(i)));
    for (const line of root.querySelectorAll('line'))
      line.classList.toggle('kept', kept.has(+line.getAttribute('left-token-index')));
  }
}

for (const kind of ['mouseover', 'mouseleave', 'click', 'dblclick', 'change'])
  document.addEventListener(kind, repeat, true);
for (const kind of ['click', 'change'])
  document.querySelector('main').addEventListener(kind, keep);

// A page narrower than both models shows them smaller, so that no head is cut off.
function fit() {
  const main = document.querySelector('main');
  main.style.zoom = 1;
  main.style.zoom = Math.min(1, innerWidth / main.scrollWidth);
}

addEventListener('resize', fit);
fit();
