//! [`Cut`]: what is left out of a world, so that a history that fails becomes a smaller one.

use std::fmt;
use std::str::FromStr;

use myriapod::sys::sim::{FaultKind, World};

/// What is left out. The rest of the world stays as its seed says, until something depends on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// Kinds of faults that never happen.
    pub without: Vec<FaultKind>,
    /// So many peers at most.
    pub peers: Option<usize>,
}

impl Cut {
    /// Leaves it out of a world that begins.
    pub fn apply(&self, world: &World) {
        world.set_without(&self.without);
    }

    /// How many peers there may be, of those that the seed says.
    #[must_use]
    pub fn peers_of(&self, peers: usize) -> usize {
        self.peers.map_or(peers, |most| most.min(peers).max(1))
    }

    /// Whether nothing is left out.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.without.is_empty() && self.peers.is_none()
    }
}

/// What happens of itself, without any chance: it cannot be left out.
const OF_ITSELF: [FaultKind; 3] = [FaultKind::BacklogFull, FaultKind::Refused, FaultKind::TimedOut];

/// The kinds that can be left out.
fn kinds() -> impl Iterator<Item = FaultKind> {
    FaultKind::ALL.into_iter().filter(|kind| !OF_ITSELF.contains(kind))
}

/// As arguments: ` --peers 2 --without short-read,emfile`, or ` --without all`.
impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(peers) = self.peers {
            write!(f, " --peers {peers}")?;
        }
        if kinds().all(|kind| self.without.contains(&kind)) {
            return f.write_str(" --without all");
        }
        let names: Vec<String> = self.without.iter().map(|kind| name(*kind)).collect();
        if names.is_empty() { Ok(()) } else { write!(f, " --without {}", names.join(",")) }
    }
}

/// The name of a kind as an argument: `short-read`.
fn name(kind: FaultKind) -> String {
    let mut name = String::new();
    for letter in format!("{kind:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('-');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

/// Kinds as they are typed, with commas between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kinds(pub Vec<FaultKind>);

impl FromStr for Kinds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let kind = |word: &str| {
            kinds().find(|kind| name(*kind) == word).ok_or_else(|| {
                let all: Vec<String> = kinds().map(name).collect();
                format!("{word}: no kind of fault; they are all, {}", all.join(", "))
            })
        };
        if text == "all" {
            return Ok(Self(kinds().collect()));
        }
        text.split(',').map(kind).collect::<Result<_, _>>().map(Self)
    }
}

/// Makes a failing world smaller: fewer peers first, then without all faults, else without each kind in
/// turn. What
/// still fails in the same way is kept. `fails` lives through the seed's world with a cut.
pub fn shrink(failure: &str, mut fails: impl FnMut(&Cut) -> Option<String>) -> Cut {
    let same = essence(failure);
    let mut smaller = Cut::default();
    let mut still = |cut: &Cut| fails(cut).is_some_and(|failure| essence(&failure) == same);
    for peers in [1, 2, 3, 5] {
        let fewer = Cut { peers: Some(peers), ..smaller.clone() };
        if still(&fewer) {
            smaller = fewer;
            break;
        }
    }
    let none = Cut { without: kinds().collect(), ..smaller.clone() };
    if still(&none) {
        return none;
    }
    for kind in kinds() {
        let mut less = smaller.clone();
        less.without.push(kind);
        if still(&less) {
            smaller = less;
        }
    }
    smaller
}

/// A failure without its numbers, which differ from one history to another.
fn essence(failure: &str) -> String {
    let words = failure.chars().filter(|letter| !letter.is_ascii_digit());
    words.take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn are_cuts_typed_as_they_are_shown() {
        let cut = Cut { without: vec![FaultKind::ShortRead, FaultKind::Emfile], peers: Some(2) };
        assert_eq!(cut.to_string(), " --peers 2 --without short-read,emfile");
        assert_eq!("short-read,emfile".parse(), Ok(Kinds(cut.without)));
        let all = Cut { without: kinds().collect(), peers: None };
        assert_eq!(
            (all.to_string().as_str(), "all".parse()),
            (" --without all", Ok(Kinds(all.without)))
        );
        assert!("short-read,".parse::<Kinds>().is_err());
    }

    #[test]
    fn is_what_does_not_matter_left_out() {
        // It fails where there are two peers and short writes.
        let fails = |cut: &Cut| {
            let writes = !cut.without.contains(&FaultKind::ShortWrite);
            let enough = cut.peers.is_none_or(|peers| peers >= 2);
            (writes && enough).then(|| format!("peer {} got nothing", cut.without.len()))
        };
        let smaller = shrink("peer 7 got nothing", fails);
        assert_eq!(smaller.peers, Some(2));
        assert_eq!(smaller.without.len(), kinds().count() - 1);
        assert!(!smaller.without.contains(&FaultKind::ShortWrite));
    }
}
