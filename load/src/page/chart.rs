//! A chart: lines over two axes, as inline SVG that takes its colours from the page.

use std::fmt::Write as _;

use super::escaped;
use super::scale::Scale;

/// The room that a chart has, in units of its own.
const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 270.0;
const LEFT: f64 = 66.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 36.0;

/// More points than this are more than anybody sees.
const MOST_POINTS: usize = 400;

pub(super) struct Axis {
    /// Written below the horizontal axis; the lines' own names tell what the vertical one is.
    pub(super) name: &'static str,
    pub(super) scale: Scale,
    pub(super) text: fn(f64) -> String,
}

pub(super) struct Line {
    pub(super) name: String,
    /// One of the classes of the page's style: `a`, `b`, `a2`, `b2`.
    pub(super) class: &'static str,
    pub(super) points: Vec<(f64, f64)>,
    /// Whether the room below is filled.
    pub(super) filled: bool,
    /// Whether a value holds until the next, as those of a histogram do.
    pub(super) stepped: bool,
}

/// A part of the horizontal axis with a name, such as a phase.
pub(super) struct Band {
    pub(super) name: String,
    pub(super) from: f64,
    pub(super) to: f64,
}

pub(super) struct Chart {
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) lines: Vec<Line>,
    pub(super) bands: Vec<Band>,
    /// What a reader should see in it.
    pub(super) caption: String,
}

impl Chart {
    fn x_of(&self, value: f64) -> f64 {
        LEFT + self.x.scale.place(value) * (WIDTH - LEFT - RIGHT)
    }

    fn y_of(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.scale.place(value) * (HEIGHT - TOP - BOTTOM)
    }

    /// The chart in a frame with its title, legend and caption.
    pub(super) fn figure(&self) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = writeln!(out, "<figure class=\"card chart\" id=\"{}\">", self.id);
        let _ = writeln!(out, "<h2>{}</h2>", self.title);
        out.push_str("<p class=\"legend\">");
        for line in &self.lines {
            let name = escaped(&line.name);
            let _ = write!(out, "<span><i class=\"key {}\"></i>{name}</span>", line.class);
        }
        out.push_str("</p>\n");
        self.svg(&mut out);
        let _ = writeln!(out, "<figcaption>{}</figcaption>\n</figure>", escaped(&self.caption));
        out
    }

    fn svg(&self, out: &mut String) {
        let _ = writeln!(
            out,
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}: {}\" \
             data-points=\"{}\">",
            self.title,
            escaped(&self.caption),
            escaped(&self.readings())
        );
        self.bands(out);
        self.axes(out);
        for line in &self.lines {
            self.line(line, out);
        }
        let (top, bottom) = (TOP, HEIGHT - BOTTOM);
        let _ = writeln!(
            out,
            "<line class=\"cursor\" y1=\"{top}\" y2=\"{bottom}\" visibility=\"hidden\"/>\n</svg>"
        );
    }

    fn bands(&self, out: &mut String) {
        let height = HEIGHT - TOP - BOTTOM;
        for band in self.bands.iter().skip(1).step_by(2) {
            let (from, to) = (self.x_of(band.from), self.x_of(band.to));
            let width = to - from;
            let _ = writeln!(
                out,
                "<rect class=\"band\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{width:.1}\" \
                 height=\"{height}\"/>"
            );
        }
        // A name that would lie over another is left out; the widest have theirs first.
        let mut widest: Vec<&Band> = self.bands.iter().collect();
        widest.sort_by(|one, other| (other.to - other.from).total_cmp(&(one.to - one.from)));
        let mut taken: Vec<(f64, f64)> = Vec::new();
        for band in widest {
            let (from, to) = (self.x_of(band.from), self.x_of(band.to));
            let half = half_width(&band.name);
            let middle = f64::midpoint(from, to).clamp(LEFT + half, WIDTH - RIGHT - half);
            let (left, right) = (middle - half - 2.0, middle + half + 2.0);
            if to - from < 3.0 || taken.iter().any(|&(from, to)| left < to && right > from) {
                continue;
            }
            taken.push((left, right));
            let (name, y) = (escaped(&band.name), TOP - 8.0);
            let _ = writeln!(
                out,
                "<text class=\"phase\" x=\"{middle:.1}\" y=\"{y}\" \
                 text-anchor=\"middle\">{name}</text>"
            );
        }
    }

    fn axes(&self, out: &mut String) {
        let right = WIDTH - RIGHT;
        for mark in self.y.scale.marks() {
            let y = self.y_of(mark);
            let (x, text_y) = (LEFT - 7.0, y + 3.8);
            let text = escaped(&(self.y.text)(mark));
            let _ = writeln!(
                out,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text x=\"{x}\" y=\"{text_y:.1}\" text-anchor=\"end\">{text}</text>"
            );
        }
        let bottom = HEIGHT - BOTTOM;
        let _ = writeln!(
            out,
            "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{bottom}\" y2=\"{bottom}\"/>"
        );
        let mut free_from = 0.0;
        for mark in self.x.scale.marks() {
            let x = self.x_of(mark);
            let (end, text_y) = (bottom + 4.0, bottom + 16.0);
            let text = escaped(&(self.x.text)(mark));
            let _ = writeln!(
                out,
                "<line class=\"axis\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{bottom}\" y2=\"{end}\"/>"
            );
            let half = half_width(&text);
            // The outermost must not leave the picture, and none may lie over its neighbour.
            let middle = x.min(WIDTH - half);
            if middle - half >= free_from {
                free_from = middle + half + 3.0;
                let _ = writeln!(
                    out,
                    "<text x=\"{middle:.1}\" y=\"{text_y}\" text-anchor=\"middle\">{text}</text>"
                );
            }
        }
        let (middle, y) = (f64::midpoint(LEFT, right), HEIGHT - 5.0);
        let _ = writeln!(
            out,
            "<text class=\"name\" x=\"{middle}\" y=\"{y}\" text-anchor=\"middle\">{}</text>",
            self.x.name
        );
    }

    fn line(&self, line: &Line, out: &mut String) {
        let mut path = String::new();
        let mut last_y = None;
        for &(x, y) in &line.points {
            let (x, y) = (self.x_of(x), self.y_of(y));
            match last_y {
                None => {
                    let _ = write!(path, "M{x:.1} {y:.1}");
                }
                Some(_) if line.stepped => {
                    let _ = write!(path, "V{y:.1}H{x:.1}");
                }
                Some(_) => {
                    let _ = write!(path, "L{x:.1} {y:.1}");
                }
            }
            last_y = Some(y);
        }
        let (Some(&(first, _)), Some(&(last, y))) = (line.points.first(), line.points.last())
        else {
            return;
        };
        let class = line.class;
        if line.filled {
            let (bottom, first, last) = (HEIGHT - BOTTOM, self.x_of(first), self.x_of(last));
            let _ = writeln!(
                out,
                "<path class=\"area {class}\" d=\"{path}L{last:.1} {bottom}L{first:.1} {bottom}Z\"/>"
            );
        }
        let _ = writeln!(out, "<path class=\"line {class}\" d=\"{path}\"/>");
        if line.points.len() == 1 {
            let (x, y) = (self.x_of(last), self.y_of(y));
            let _ = writeln!(
                out,
                "<circle class=\"dot {class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/>"
            );
        }
    }

    /// What a pointer is told: pairs of a place and a text, for the page's script.
    fn readings(&self) -> String {
        let mut readings = Vec::new();
        for (nth, line) in self.lines.iter().enumerate() {
            for &(x, y) in &line.points {
                let name =
                    if self.lines.len() > 1 { format!("{}: ", line.name) } else { String::new() };
                let x_text = (self.x.text)(x);
                let text = format!("{name}{} at {x_text}", (self.y.text)(y));
                let place = (self.x_of(x) * 10.0).round() / 10.0;
                readings.push(serde_json::json!([place, nth, text]));
            }
        }
        serde_json::Value::Array(readings).to_string()
    }
}

/// Half of the room that a text needs where it is largest, on a telephone.
#[allow(clippy::cast_precision_loss, reason = "texts are short")]
fn half_width(text: &str) -> f64 {
    text.chars().count() as f64 * 3.7
}

/// At most [`MOST_POINTS`] points: of neighbours, the one with the largest value stays, so that no
/// peak is lost.
pub(super) fn thinned(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    if points.len() <= MOST_POINTS {
        return points;
    }
    let together = points.len().div_ceil(MOST_POINTS);
    let largest = |chunk: &[(f64, f64)]| {
        chunk.iter().copied().reduce(|one, other| if other.1 > one.1 { other } else { one })
    };
    points.chunks(together).filter_map(largest).collect()
}
