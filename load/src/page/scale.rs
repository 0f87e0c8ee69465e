//! Axes: from values to places, and where their marks stand.

/// How an axis is divided.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scale {
    /// Even steps from 0 or `from` to `to`.
    Linear { from: f64, to: f64 },
    /// Even steps of this size from 0 to `to`.
    Steps { step: f64, to: f64 },
    /// Even steps for each factor of ten.
    Log { from: f64, to: f64 },
    /// Quantiles, with even steps for each further nine: 0, 90, 99, 99.9 %. `to` is the number of
    /// nines at the right end.
    Nines { to: f64 },
}

impl Scale {
    /// From 0 to a round number that is not below `most`.
    pub(super) fn up_to(most: f64) -> Self {
        let most = if most > 0.0 && most.is_finite() { most } else { 1.0 };
        let step = nice_step(most / 4.0);
        Self::Linear { from: 0.0, to: (most / step).ceil() * step }
    }

    /// Logarithmic, from a round number below to one above: 1, 2 or 5 times a power of ten.
    pub(super) fn log(least: f64, most: f64) -> Self {
        let least = least.max(1.0);
        let from = one_two_five(least, false);
        let to = one_two_five(most.max(least), true);
        Self::Log { from, to: if to > from { to } else { from * 10.0 } }
    }

    /// Where a value is, from 0 to 1.
    pub(super) fn place(self, value: f64) -> f64 {
        let place = match self {
            Self::Linear { from, to } => (value - from) / (to - from),
            Self::Steps { to, .. } => value / to,
            Self::Log { from, to } => (value.max(from) / from).log10() / (to / from).log10(),
            Self::Nines { to } => nines(value).min(to) / to,
        };
        if place.is_finite() { place.clamp(0.0, 1.0) } else { 0.0 }
    }

    /// The values that are marked.
    pub(super) fn marks(self) -> Vec<f64> {
        match self {
            Self::Linear { from, to } => steps(from, nice_step((to - from) / 4.0), to),
            Self::Steps { step, to } => steps(0.0, step, to),
            Self::Log { from, to } => {
                let decades = (to / from).log10();
                let factors: &[f64] = if decades <= 2.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
                let mut marks = Vec::new();
                let mut decade = 10_f64.powf(from.log10().floor());
                while decade <= to * 1.000_001 {
                    let marked = factors.iter().map(|factor| factor * decade);
                    marks.extend(marked.filter(|mark| (from..=to * 1.000_001).contains(mark)));
                    decade *= 10.0;
                }
                marks
            }
            Self::Nines { to } => {
                let mut marks = vec![0.0, 0.5];
                let mut left = 0.1;
                let mut nines = 1.0;
                while nines <= to + 1e-9 {
                    marks.push(1.0 - left);
                    left /= 10.0;
                    nines += 1.0;
                }
                marks
            }
        }
    }
}

fn steps(from: f64, step: f64, to: f64) -> Vec<f64> {
    let marks = std::iter::successors(Some(from), |mark| Some(mark + step));
    marks.take_while(|mark| *mark <= to + step / 1e6).take(20).collect()
}

/// How many nines a quantile has: 0.9 has one, 0.99 two. The last point, 1, has none too many.
fn nines(quantile: f64) -> f64 {
    -(1.0 - quantile).max(1e-12).log10()
}

/// 1, 2, 2.5 or 5 times a power of ten, not below `least`.
fn nice_step(least: f64) -> f64 {
    if least <= 0.0 || !least.is_finite() {
        return 1.0;
    }
    let power = 10_f64.powf(least.log10().floor());
    let factors = [1.0, 2.0, 2.5, 5.0];
    let fits = factors.into_iter().find(|factor| factor * power >= least * 0.999_999);
    fits.unwrap_or(10.0) * power
}

fn one_two_five(value: f64, up: bool) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0];
    let found = if up {
        steps.into_iter().find(|step| step * power >= value * 0.999_999)
    } else {
        steps.into_iter().rev().find(|step| step * power <= value * 1.000_001)
    };
    found.unwrap_or(1.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn are_marks_round_and_inside() {
        for most in [0.3, 1.0, 7.0, 19_936.0, 123_456.0, 1e9] {
            let scale = Scale::up_to(most);
            let Scale::Linear { to, .. } = scale else { unreachable!() };
            let marks = scale.marks();
            assert!(to >= most && to <= most * 1.5, "{most}: {to}");
            assert!((3..=7).contains(&marks.len()), "{most}: {marks:?}");
        }
        assert_eq!(Scale::up_to(100.0).marks(), [0.0, 25.0, 50.0, 75.0, 100.0]);
        assert_eq!(Scale::log(30.0, 800.0).marks(), [20.0, 50.0, 100.0, 200.0, 500.0, 1000.0]);
        for odd in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Scale::up_to(odd).marks().len() < 20);
        }
    }

    #[test]
    fn has_each_nine_the_same_room() {
        let scale = Scale::Nines { to: 4.0 };
        for (quantile, place) in [(0.0, 0.0), (0.9, 0.25), (0.99, 0.5), (0.9999, 1.0), (1.0, 1.0)] {
            assert!((scale.place(quantile) - place).abs() < 1e-9, "{quantile}");
        }
        assert_eq!(scale.marks().len(), 6);
    }
}
