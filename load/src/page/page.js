// Tells the values under a pointer. The page says everything without it, too.
const tip = document.getElementById('tip');
for (const svg of document.querySelectorAll('svg[data-points]')) {
  const points = JSON.parse(svg.dataset.points);
  const cursor = svg.querySelector('.cursor');
  const hide = () => { tip.hidden = true; cursor.setAttribute('visibility', 'hidden'); };
  const show = (event) => {
    const box = svg.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width * svg.viewBox.baseVal.width;
    const nearest = [];
    for (const point of points) {
      const best = nearest[point[1]];
      if (!best || Math.abs(point[0] - x) < Math.abs(best[0] - x)) nearest[point[1]] = point;
    }
    const lines = nearest.filter(Boolean);
    if (!lines.length) return;
    cursor.setAttribute('x1', lines[0][0]);
    cursor.setAttribute('x2', lines[0][0]);
    cursor.setAttribute('visibility', 'visible');
    tip.textContent = lines.map((line) => line[2]).join('\n');
    tip.hidden = false;
    const left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${Math.max(8, event.clientY - tip.offsetHeight - 12)}px`;
  };
  svg.addEventListener('pointermove', show);
  svg.addEventListener('pointerdown', show);
  svg.addEventListener('pointerleave', hide);
}
