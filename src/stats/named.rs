//! [`NamedCounts`]: counts whose names are not known ahead.

/// Counts by names, of which there are few.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamedCounts(Vec<(&'static str, u64)>);

impl NamedCounts {
    /// The names that have a count, each with its count.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.0.iter().copied()
    }

    /// The count of this name.
    #[must_use]
    pub fn of(&self, name: &str) -> u64 {
        self.iter().find(|(known, _)| *known == name).map_or(0, |(_, count)| count)
    }

    /// All counts together.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.iter().map(|(_, count)| count).sum()
    }

    pub(crate) fn add(&mut self, name: &'static str, more: u64) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count += more,
            None => self.0.push((name, more)),
        }
    }

    pub(super) fn add_all(&mut self, other: &Self) {
        other.iter().for_each(|(name, more)| self.add(name, more));
    }
}
