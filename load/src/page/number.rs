//! Numbers of which a page shows some in a form of its own.

use myriapod_machine::figures::{grouped, three_digits};

/// A count, whole and with its thousands apart.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float beyond the whole numbers is shown as the last of them"
)]
pub(super) fn count(number: f64) -> String {
    grouped(number.round() as u64)
}

/// A number that has to be short: `98.4k`, `1.2M`.
pub(super) fn short(number: f64) -> String {
    let units = [(1e9, "G"), (1e6, "M"), (1e3, "k")];
    match units.into_iter().find(|&(unit, _)| number >= unit) {
        Some((unit, name)) => format!("{}{name}", trimmed(number / unit)),
        None => trimmed(number),
    }
}

/// A quantile as a percentile: `99.9`.
pub(super) fn percentile(quantile: f64) -> String {
    let left = 1.0 - quantile;
    // One digit more for each further nine.
    let digits = (0..7).find(|&digits| left >= 0.999 * 0.1_f64.powi(digits)).unwrap_or(0);
    let digits = usize::try_from(digits - 1).unwrap_or(0);
    trim_zeros(&format!("{:.digits$}", quantile * 100.0))
}

fn trimmed(number: f64) -> String {
    trim_zeros(&three_digits(number))
}

fn trim_zeros(text: &str) -> String {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn are_figures_short_and_exact_enough() {
        for (number, text) in
            [(0.0, "0"), (2.5, "2.5"), (1000.0, "1k"), (98_412.0, "98.4k"), (1.2e6, "1.2M")]
        {
            assert_eq!(short(number), text);
        }
        for (quantile, text) in [
            (0.0, "0"),
            (0.5, "50"),
            (0.9, "90"),
            (0.99, "99"),
            (0.984_375, "98.4"),
            (0.999, "99.9"),
            (0.9999, "99.99"),
            (1.0, "100"),
        ] {
            assert_eq!(percentile(quantile), text);
        }
    }
}
