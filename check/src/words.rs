//! Figures in words: `1,024 bytes`, `5,917 KiB`, `2 s`, `44 ms`.

use std::time::Duration;

pub(super) use myriapod_machine::figures::grouped as number;

/// `1 byte`, `1,024 bytes`.
pub(super) fn bytes(count: u64) -> String {
    format!("{} {}", number(count), if count == 1 { "byte" } else { "bytes" })
}

/// Whole KiB above a few thousand bytes.
pub(super) fn size(count: u64) -> String {
    if count < 10_000 { bytes(count) } else { format!("{} KiB", number(count >> 10)) }
}

/// With two digits that matter: `0.12 ms`, `44 ms`, `2 s`.
pub(super) fn time(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        _ if seconds >= 0.995 => {
            let text = format!("{seconds:.1}");
            format!("{} s", text.strip_suffix(".0").unwrap_or(&text))
        }
        _ if seconds >= 0.001 => format!("{:.0} ms", seconds * 1e3),
        _ => format!("{:.2} ms", seconds * 1e3),
    }
}

/// As the shell must have a word: quoted if anything in it means something there.
pub(super) fn shell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,=+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn are_figures_shown_for_people() {
        assert_eq!([bytes(1), size(1024), size(6_059_008)], ["1 byte", "1,024 bytes", "5,917 KiB"]);
        let shown = |micros| time(Duration::from_micros(micros));
        assert_eq!([shown(120), shown(44_000), shown(999_999)], ["0.12 ms", "44 ms", "1 s"]);
        assert_eq!([shown(2_000_000), shown(12_340_000)], ["2 s", "12.3 s"]);
    }

    #[test]
    fn does_a_word_come_through_the_shell_whole() {
        assert_eq!(shell("127.0.0.1"), "127.0.0.1");
        assert_eq!(shell("python3 it's.py {port}"), r"'python3 it'\''s.py {port}'");
        assert_eq!(shell(""), "''");
    }
}
