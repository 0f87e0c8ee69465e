//! [`Columns`]: a table of text that fits a terminal.

use myriapod_command::terminal::columns;

/// What may be done with a column whose table is wider than the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Squeeze {
    /// Nothing.
    Keep,
    /// It is left out; of several such columns the last one first.
    Drop,
    /// What stands first is kept: names.
    CutEnd,
    /// What stands last is kept: addresses, whose port stands there.
    CutStart,
}

/// One column.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    pub(crate) head: &'static str,
    /// Numbers stand at the right.
    pub(crate) right: bool,
    pub(crate) squeeze: Squeeze,
}

impl Column {
    pub(crate) const fn new(head: &'static str, squeeze: Squeeze) -> Self {
        Self { head, right: false, squeeze }
    }

    pub(crate) const fn number(head: &'static str, squeeze: Squeeze) -> Self {
        Self { head, right: true, squeeze }
    }
}

/// No column is cut to less.
const LEAST: usize = 8;

/// Columns, and rows of as many cells. What others named in a cell must have been shown with
/// [`OneLine`](crate::terminal::OneLine).
#[derive(Debug)]
pub(crate) struct Columns<'a> {
    pub(crate) columns: &'a [Column],
    pub(crate) rows: Vec<Vec<String>>,
}

impl Columns<'_> {
    /// The lines: the heads, if there are any, and a line for each row. With `width`, no line is
    /// wider, unless even cutting every column to its least leaves them so.
    pub(crate) fn lines(&self, width: Option<usize>) -> Vec<String> {
        let mut widths: Vec<Option<usize>> = (0..self.columns.len())
            .map(|at| {
                let cells =
                    self.rows.iter().filter_map(|row| row.get(at)).map(|cell| columns(cell));
                Some(cells.chain([columns(self.columns[at].head)]).max().unwrap_or(0))
            })
            .collect();
        if let Some(width) = width {
            self.squeeze(&mut widths, width);
        }
        let mut lines = Vec::with_capacity(self.rows.len() + 1);
        if self.columns.iter().any(|column| !column.head.is_empty()) {
            lines.push(self.line(self.columns.iter().map(|column| column.head), &widths));
        }
        lines
            .extend(self.rows.iter().map(|row| self.line(row.iter().map(String::as_str), &widths)));
        lines
    }

    fn squeeze(&self, widths: &mut [Option<usize>], width: usize) {
        let excess = |widths: &[Option<usize>]| {
            let shown: Vec<_> = widths.iter().flatten().collect();
            let all: usize = shown.iter().map(|&&width| width).sum::<usize>() + shown.len();
            all.saturating_sub(1 + width)
        };
        let with = |squeeze| move |(_, column): &(usize, &Column)| column.squeeze == squeeze;
        let each = || self.columns.iter().enumerate();
        for (at, _) in each().rev().filter(with(Squeeze::Drop)) {
            if excess(widths) > 0 {
                widths[at] = None;
            }
        }
        // The last column first: a name is missed less than an address.
        let ends = each().rev().filter(with(Squeeze::CutEnd));
        for (at, column) in ends {
            let least = LEAST.max(columns(column.head));
            let over = excess(widths);
            widths[at] = widths[at].map(|width| width.min(width.saturating_sub(over).max(least)));
        }
        // Addresses give way in turn, the wider one first.
        while excess(widths) > 0 {
            let starts = each().filter(with(Squeeze::CutStart)).map(|(at, _)| at);
            let Some(at) = starts.max_by_key(|&at| widths[at]) else { return };
            match widths[at] {
                Some(wide) if wide > LEAST => widths[at] = Some(wide - 1),
                _ => return,
            }
        }
    }

    fn line<'c>(&self, cells: impl Iterator<Item = &'c str>, widths: &[Option<usize>]) -> String {
        let mut line = String::new();
        for ((cell, column), width) in cells.zip(self.columns).zip(widths) {
            let Some(width) = *width else { continue };
            if !line.is_empty() {
                line.push(' ');
            }
            let cell = cut(cell, width, column.squeeze);
            let room = " ".repeat(width.saturating_sub(columns(&cell)));
            let (before, behind) =
                if column.right { (room, String::new()) } else { (String::new(), room) };
            line.extend([before, cell, behind]);
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// At most `width` columns, with `…` where some are missing.
fn cut(text: &str, width: usize, squeeze: Squeeze) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    let mut room = width.saturating_sub(1);
    let mut fits = |character: &char| {
        let wide = columns(character.encode_utf8(&mut [0; 4]));
        let fits = wide <= room;
        room = if fits { room - wide } else { 0 };
        fits
    };
    match squeeze {
        Squeeze::CutStart => {
            let kept: Vec<char> = text.chars().rev().take_while(&mut fits).collect();
            format!("…{}", kept.into_iter().rev().collect::<String>())
        }
        _ => format!("{}…", text.chars().take_while(&mut fits).collect::<String>()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 4] = [
        Column::number("N", Squeeze::Keep),
        Column::new("Address", Squeeze::CutStart),
        Column::number("RTT", Squeeze::Drop),
        Column::new("Name", Squeeze::CutEnd),
    ];

    fn lines(width: Option<usize>) -> Vec<String> {
        let row = |cells: [&str; 4]| cells.map(str::to_owned).to_vec();
        let rows = vec![
            row(["7", "[2001:db8::1]:80", "0.05", "a-long-name(1)"]),
            row(["10", "x", "", ""]),
        ];
        Columns { columns: &COLUMNS, rows }.lines(width)
    }

    #[test]
    fn is_nothing_cut_where_all_of_it_fits() {
        let whole =
            [" N Address           RTT Name", " 7 [2001:db8::1]:80 0.05 a-long-name(1)", "10 x"];
        assert_eq!(lines(None), whole);
        assert_eq!(lines(Some(39)), whole);
    }

    #[test]
    fn does_a_narrow_terminal_keep_the_ports() {
        assert_eq!(lines(Some(38))[1], " 7 [2001:db8::1]:80 a-long-name(1)");
        assert_eq!(lines(Some(30))[1], " 7 [2001:db8::1]:80 a-long-na…");
        assert_eq!(lines(Some(24))[1], " 7 …:db8::1]:80 a-long-…");
        assert_eq!(lines(Some(1))[1], " 7 …:1]:80 a-long-…".replace("…:1]:80", "…::1]:80"));
    }

    #[test]
    fn do_wide_characters_take_two_columns() {
        let both = [Column::new("", Squeeze::CutEnd), Column::new("", Squeeze::Keep)];
        let rows =
            [["漢字漢字漢字漢字", "1"], ["ab", "2"]].map(|row| row.map(str::to_owned).to_vec());
        let lines = |width| Columns { columns: &both, rows: rows.to_vec() }.lines(width);
        assert_eq!(lines(None), ["漢字漢字漢字漢字 1", "ab               2"]);
        assert_eq!(lines(Some(13)), ["漢字漢字漢… 1", "ab          2"]);
    }
}
