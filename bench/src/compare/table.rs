//! A table, as markdown.

use std::fmt::Write as _;

use crate::median;

/// What stands in a table.
#[derive(Clone, Debug)]
pub(crate) enum Cell {
    Ratio { median: f64, least: f64, most: f64, waited: bool },
    Text(String),
}

impl Cell {
    /// The median and the range of ratios; marked where the clients set the pace.
    pub(crate) fn of(ratios: &[f64], waited: bool) -> Option<Self> {
        let least = ratios.iter().copied().min_by(f64::total_cmp)?;
        let most = ratios.iter().copied().max_by(f64::total_cmp)?;
        Some(Self::Ratio { median: median(ratios), least, most, waited })
    }

    pub(crate) fn text(&self) -> String {
        match self {
            Self::Ratio { median, least, most, waited } => {
                let mark = if *waited { " †" } else { "" };
                let [median, least, most] = [median, least, most].map(|ratio| short(*ratio));
                if least == most {
                    format!("{median}{mark}")
                } else {
                    format!("{median} ({least} to {most}){mark}")
                }
            }
            Self::Text(text) => text.clone(),
        }
    }
}

/// Two places behind the point, and no more digits than say something.
pub(crate) fn short(ratio: f64) -> String {
    let places = match ratio {
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{ratio:.places$}")
}

#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<(String, Vec<Option<Cell>>)>,
    /// Whether its ratios are drawn.
    pub(crate) drawn: bool,
}

impl Table {
    pub(crate) fn markdown(&self) -> String {
        let mut out = format!("{}:\n\n| |", self.title);
        for column in &self.columns {
            let _ = write!(out, " {column} |");
        }
        out.push_str("\n|---|");
        out.push_str(&"---|".repeat(self.columns.len()));
        out.push('\n');
        for (name, cells) in &self.rows {
            // Ours stand out.
            let bold = if name.starts_with("myriapod") { "**" } else { "" };
            let _ = write!(out, "| {bold}{name}{bold} |");
            for cell in cells {
                let text = cell.as_ref().map_or_else(|| "–".to_owned(), Cell::text);
                let _ = write!(out, " {text} |");
            }
            out.push('\n');
        }
        out
    }
}
