//! The tables as one page that needs nothing else: bars with their range, light and dark.

use std::fmt::Write as _;

use super::table::{Cell, Table, short};

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1a1c1f;--page:#fdfdfc;--line:#8a8f98;--other:#9fb2c8;--ours:#d9622b}
@media(prefers-color-scheme:dark){:root{--ink:#e8e8e6;--page:#16181b;--line:#7d838c;--other:#4d6480;--ours:#f08a55}}
body{font:16px/1.45 system-ui,sans-serif;color:var(--ink);background:var(--page);max-width:64rem;margin:1.5rem auto;padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin:2rem 0 .5rem}h3{font-size:.95rem;margin:1rem 0 .25rem}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(19rem,1fr));gap:0 1.5rem}
svg{width:100%;height:auto;display:block}text{font:11px system-ui,sans-serif;fill:var(--ink)}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:.85rem}
td,th{border-bottom:1px solid var(--line);padding:.25rem .6rem;text-align:left;white-space:nowrap}
.notes{font-size:.85rem}";

/// The page.
pub(crate) fn page(tables: &[Table], notes: &[String]) -> String {
    let mut out = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>Servers side by side</title><style>{STYLE}</style><h1>Servers side by side</h1><div class=\"notes\">"
    );
    for note in notes {
        let _ = write!(out, "<p>{}</p>", escaped(note));
    }
    out.push_str("</div>");
    for table in tables {
        let _ = write!(out, "<h2>{}</h2>", escaped(&table.title));
        if table.drawn {
            out.push_str("<div class=\"charts\">");
            for (at, column) in table.columns.iter().enumerate() {
                let scale = if logarithmic(table, at) { ", logarithmic" } else { "" };
                let _ = write!(
                    out,
                    "<section><h3>{}{scale}</h3>{}</section>",
                    escaped(column),
                    chart(table, at)
                );
            }
            out.push_str("</div>");
        }
        plain(&mut out, table);
    }
    out.push_str("</html>\n");
    out
}

/// The names in one column, with median, least and most.
fn ratios(table: &Table, column: usize) -> impl Iterator<Item = (&str, f64, f64, f64)> {
    table.rows.iter().filter_map(move |(name, cells)| match cells.get(column)?.as_ref()? {
        Cell::Ratio { median, least, most, .. } => Some((name.as_str(), *median, *least, *most)),
        Cell::Text(_) => None,
    })
}

/// Whether what is far away would flatten what is near.
fn logarithmic(table: &Table, column: usize) -> bool {
    ratios(table, column).any(|(_, median, ..)| median > 8.0)
}

/// One column as bars; the line at 1 is the yardstick.
fn chart(table: &Table, column: usize) -> String {
    const ROW: f64 = 18.0;
    const LEFT: f64 = 122.0;
    const WIDTH: f64 = 170.0;
    /// Where a logarithmic scale begins.
    const LEAST: f64 = 0.5;
    let ratios: Vec<_> = ratios(table, column).collect();
    let most = ratios.iter().fold(1.0_f64, |most, ratio| most.max(ratio.1)) * 1.1;
    let share = |value: f64| {
        if logarithmic(table, column) {
            (value / LEAST).ln() / (most / LEAST).ln()
        } else {
            value / most
        }
    };
    let x = |value: f64| LEFT + share(value).clamp(0.0, 1.0) * WIDTH;
    let height = ratios.len() as f64 * ROW + 4.0;
    let mut out = format!("<svg viewBox=\"0 0 345 {height}\" role=\"img\">");
    for (at, (name, median, least, most)) in ratios.iter().enumerate() {
        let y = at as f64 * ROW;
        let color = if name.starts_with("myriapod") { "ours" } else { "other" };
        let _ = write!(
            out,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text><rect x=\"{LEFT}\" y=\"{}\" width=\"{:.1}\" height=\"12\" rx=\"2\" fill=\"var(--{color})\"/><line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{}\" y2=\"{}\" stroke=\"var(--ink)\"/><text x=\"{}\" y=\"{}\">{}</text>",
            LEFT - 5.0,
            y + 13.0,
            escaped(name),
            y + 3.0,
            x(*median) - LEFT,
            x(*least),
            x(*most),
            y + 9.0,
            y + 9.0,
            x(*most).max(x(*median)) + 4.0,
            y + 13.0,
            short(*median),
        );
    }
    let _ = write!(
        out,
        "<line x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"0\" y2=\"{height}\" stroke=\"var(--line)\" stroke-dasharray=\"3 3\"/></svg>",
        x(1.0)
    );
    out
}

fn plain(out: &mut String, table: &Table) {
    out.push_str("<div class=\"scroll\"><table><tr><th></th>");
    for column in &table.columns {
        let _ = write!(out, "<th>{}</th>", escaped(column));
    }
    out.push_str("</tr>");
    for (name, cells) in &table.rows {
        let _ = write!(out, "<tr><th>{}</th>", escaped(name));
        for cell in cells {
            let text = cell.as_ref().map_or_else(|| "–".to_owned(), Cell::text);
            let _ = write!(out, "<td>{}</td>", escaped(&text));
        }
        out.push_str("</tr>");
    }
    out.push_str("</table></div>");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
