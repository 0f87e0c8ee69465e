//! Numbers, bytes and times for people.

/// Nanoseconds with three digits and their unit.
#[must_use]
pub fn duration(ns: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    duration_of(ns as f64)
}

/// The same, of a number with a fraction.
#[must_use]
pub fn duration_of(ns: f64) -> String {
    let (value, unit) = match ns {
        ns if ns < 1e3 => return format!("{ns:.0} ns"),
        ns if ns < 1e6 => (ns / 1e3, "µs"),
        ns if ns < 1e9 => (ns / 1e6, "ms"),
        ns => (ns / 1e9, "s"),
    };
    let digits = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.digits$} {unit}")
}

/// A number with commas between thousands.
#[must_use]
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Bytes with their unit.
#[must_use]
pub fn bytes(number: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let number = number as f64;
    match number {
        small if small < 1024.0 => format!("{small:.0} B"),
        kib if kib < 1024.0 * 1024.0 => format!("{:.0} KiB", kib / 1024.0),
        mib if mib < 1024.0 * 1024.0 * 1024.0 => format!("{:.1} MiB", mib / (1024.0 * 1024.0)),
        gib => format!("{:.2} GiB", gib / (1024.0 * 1024.0 * 1024.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn are_units_chosen_for_people() {
        for (ns, shown) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1000, "1.00 µs"),
            (12_345, "12.3 µs"),
            (123_456, "123 µs"),
            (2_000_000, "2.00 ms"),
            (9_999_000_000, "10.0 s"),
        ] {
            assert_eq!(duration(ns), shown);
        }
        assert_eq!(
            [count(0), count(999), count(1000), count(1_234_567)],
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(
            [bytes(10), bytes(2048), bytes(3 << 20), bytes(5 << 30)],
            ["10 B", "2 KiB", "3.0 MiB", "5.00 GiB"]
        );
    }
}
