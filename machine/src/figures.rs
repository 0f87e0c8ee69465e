//! Figures as people read them: three digits that matter, and the unit that fits.

/// A number with its thousands apart: `1,048,576`.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes in the largest unit of which there is one: `512 B`, `7.50 MiB`.
#[must_use]
pub fn bytes(number: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    bytes_of(number as f64)
}

/// The same, of a number with a fraction.
#[must_use]
pub fn bytes_of(number: f64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let units = units.map(|(name, bits)| (name, 2_f64.powi(bits)));
    match units.into_iter().find(|&(_, unit)| number >= unit) {
        Some((name, unit)) => format!("{} {name}", three_digits(number / unit)),
        None => format!("{number:.0} B"),
    }
}

/// Nanoseconds in the unit that fits: `87.4 µs`, `1.24 ms`.
#[must_use]
pub fn duration(ns: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    duration_of(ns as f64)
}

/// The same, of a number with a fraction.
#[must_use]
pub fn duration_of(ns: f64) -> String {
    let units = [("s", 1e9), ("ms", 1e6), ("µs", 1e3)];
    // What would be shown as 1,000 of a unit is one of the next.
    match units.into_iter().find(|&(_, unit)| ns >= unit * 0.9995) {
        Some((name, unit)) => format!("{} {name}", three_digits(ns / unit)),
        None => format!("{ns:.0} ns"),
    }
}

/// A number with three digits, or all of its whole ones: `9.87`, `98.7`, `9870`.
#[must_use]
pub fn three_digits(number: f64) -> String {
    match number {
        n if n >= 99.95 => format!("{n:.0}"),
        n if n >= 9.995 => format!("{n:.1}"),
        n => format!("{n:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn are_thousands_apart() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (19_936, "19,936"),
            (1_048_576, "1,048,576"),
            (u64::MAX, "18,446,744,073,709,551,615"),
        ] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn have_bytes_the_unit_that_fits() {
        for (number, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (8 << 20, "8.00 MiB"),
            ((7 << 20) + (1 << 19), "7.50 MiB"),
            (24 << 30, "24.0 GiB"),
            (u64::MAX, "16777216 TiB"),
        ] {
            assert_eq!(bytes(number), text);
        }
    }

    #[test]
    fn have_times_the_unit_that_fits() {
        for (ns, text) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1000, "1.00 µs"),
            (12_345, "12.3 µs"),
            (123_456, "123 µs"),
            (999_999, "1.00 ms"),
            (2_000_000, "2.00 ms"),
            (9_999_000_000, "10.0 s"),
        ] {
            assert_eq!(duration(ns), text);
        }
    }
}
