// Draws what the stream of events tells. Values are numbers, names are put in as text.
const MOST = 600, WIDTH = 460, HEIGHT = 230, LEFT = 66, RIGHT = 14, TOP = 14, BOTTOM = 30;
const CLASSES = ['a', 'b'];
let head = null, points = [];

const element = (name, attributes = {}, text = '') => {
  const svg = ['svg', 'path', 'line', 'text'].includes(name);
  const made = svg ? document.createElementNS('http\u003a//www.w3.org/2000/svg', name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
};
const of = (id) => document.getElementById(id);

const digits = (value) => value.toLocaleString('en-US', { maximumSignificantDigits: 3 });
const scaled = (value, units) => {
  if (value === 0) return '0';
  for (const [unit, size] of units) if (Math.abs(value) >= size) return `${digits(value / size)} ${unit}`;
  return `${digits(value)} ${units.at(-1)[0]}`;
};
const WRITE = {
  count: (value) => value < 100000 ? value.toLocaleString('en-US', { maximumFractionDigits: 0 })
    : scaled(value, [['M', 1e6], ['k', 1e3]]),
  time: (value) => scaled(value, [['s', 1e9], ['ms', 1e6], ['µs', 1e3], ['ns', 1]]),
  bytes: (value) => scaled(value, [['GiB', 2 ** 30], ['MiB', 2 ** 20], ['KiB', 2 ** 10], ['B', 1]]),
  processors: (value) => value.toFixed(2),
};

// The least of 1, 2, 2.5 and 5 times a power of the base that holds so much.
const roof = (value, unit) => {
  if (!(value > 0)) return unit === 'processors' ? 1 : 10;
  let step = unit === 'bytes' ? 1024 ** Math.floor(Math.log(value) / Math.log(1024)) : 1;
  for (;;) {
    for (const times of [1, 2, 2.5, 5]) if (step * times >= value) return step * times;
    step = value < 1 && step === 1 ? 10 ** Math.floor(Math.log10(value)) : step * 10;
  }
};

const drawChart = (chart, nth) => {
  const figure = of(`chart${nth}`), svg = figure.querySelector('svg');
  const from = points.length ? points[0].at_s : 0, to = points.length ? points.at(-1).at_s : 1;
  const all = points.flatMap((point) => point.values[nth]).filter((value) => value !== null);
  const top = roof(Math.max(0, ...all), chart.unit), write = WRITE[chart.unit];
  const x = (at) => LEFT + (to > from ? (at - from) / (to - from) : 1) * (WIDTH - LEFT - RIGHT);
  const y = (value) => HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM);
  const drawn = [];
  for (const part of [0, 0.25, 0.5, 0.75, 1]) {
    const at = y(part * top);
    drawn.push(element('line', { class: part ? 'grid' : 'axis', x1: LEFT, x2: WIDTH - RIGHT, y1: at, y2: at }));
    drawn.push(element('text', { x: LEFT - 7, y: at + 3.8, 'text-anchor': 'end' }, write(part * top)));
  }
  const marks = [[from, 'start'], [to, 'end']];
  for (const [at, anchor] of marks) {
    drawn.push(element('text', { x: x(at), y: HEIGHT - 10, 'text-anchor': anchor }, `${Math.round(at)} s`));
  }
  // The first line lies on top.
  for (let line = chart.lines.length - 1; line >= 0; line -= 1) {
    let path = '', pen = false;
    for (const point of points) {
      const value = point.values[nth][line];
      if (value !== null) path += `${pen ? 'L' : 'M'}${x(point.at_s).toFixed(1)} ${y(value).toFixed(1)}`;
      pen = value !== null;
    }
    if (path) drawn.push(element('path', { class: `line ${CLASSES[line]}`, d: path }));
  }
  svg.replaceChildren(...drawn);
  const last = points.at(-1), value = last && last.values[nth][0];
  of(`tile${nth}`).textContent = value === null || value === undefined ? '–' : write(value);
};

const draw = () => {
  head.charts.forEach(drawChart);
  const last = points.at(-1);
  if (!last) return;
  of('state').textContent = `${last.phase || 'running'}, ${Math.round(last.at_s)} s`;
  of('ends').hidden = !last.counts.length;
  of('counts').replaceChildren(...last.counts.map(([name, count]) => {
    const row = element('tr');
    row.append(element('th', { scope: 'row' }, name), element('td', {}, count.toLocaleString('en-US')));
    return row;
  }));
};

const begin = (board) => {
  head = board.head;
  points = board.points;
  // A line is broken between words, and not at a hyphen.
  of('title').textContent = head.title.replaceAll('-', '\u2011');
  document.title = `${head.title} – myriapod, live`;
  of('tiles').replaceChildren(...head.charts.map((chart, nth) => {
    const tile = element('div', { class: 'tile' });
    tile.append(element('dt', {}, `${chart.title}, ${chart.lines[0]}`), element('dd', { id: `tile${nth}` }, '–'));
    return tile;
  }));
  of('charts').replaceChildren(...head.charts.map((chart, nth) => {
    const figure = element('figure', { class: 'card chart', id: `chart${nth}` });
    const legend = element('p', { class: 'legend' });
    chart.lines.forEach((name, line) => {
      const span = element('span');
      span.append(element('i', { class: `key ${CLASSES[line]}` }), document.createTextNode(name));
      legend.append(span);
    });
    figure.append(element('h2', {}, chart.title), legend,
      element('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'img', 'aria-label': chart.title }));
    return figure;
  }));
  of('state').className = 'live';
  draw();
};

begin(JSON.parse(of('board').textContent));
of('state').className = '';
const events = new EventSource('events');
events.addEventListener('board', (event) => begin(JSON.parse(event.data)));
events.addEventListener('point', (event) => {
  const point = JSON.parse(event.data), last = points.at(-1);
  if (!head || last && point.at_s <= last.at_s) return;
  points.push(point);
  if (points.length > MOST) points.shift();
  draw();
});
events.addEventListener('ended', (event) => {
  events.close();
  of('state').className = '';
  of('state').textContent = JSON.parse(event.data);
});
events.onerror = () => {
  of('state').className = 'lost';
  of('state').textContent = 'not reached; trying again';
};
