//! Sets of processors, as the kernel writes them: `0-1,4`.

use std::collections::BTreeSet;
use std::fmt::Write as _;

/// The processors of a list; what is none is left out.
pub(crate) fn parse(list: &str) -> BTreeSet<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse::<usize>().ok()?..=last.trim().parse::<usize>().ok()?)
    };
    list.split(',').filter_map(range).flatten().collect()
}

/// The list of some processors.
pub(crate) fn list(processors: &BTreeSet<usize>) -> String {
    let mut list = String::new();
    let mut rest = processors.iter().copied().peekable();
    while let Some(first) = rest.next() {
        let mut last = first;
        while let Some(next) = rest.next_if_eq(&(last + 1)) {
            last = next;
        }
        let comma = if list.is_empty() { "" } else { "," };
        let _ = match last - first {
            0 => write!(list, "{comma}{first}"),
            _ => write!(list, "{comma}{first}-{last}"),
        };
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn are_lists_read_and_written_as_the_kernel_does() {
        for text in ["0", "0-1", "0-1,4", "3,5-7,9,11-64", ""] {
            assert_eq!(list(&parse(text)), text);
        }
        assert_eq!(parse("0-2"), BTreeSet::from([0, 1, 2]));
        assert_eq!(list(&parse("1-2,0,x")), "0-2");
    }
}
