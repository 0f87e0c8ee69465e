//! [`Groups`]: named sets of connections, as lists that run through one slab.

use std::collections::BTreeMap;

use crate::slab::{Key, Slab};

/// No membership.
pub(crate) const NONE: u32 = u32::MAX;

/// The groups of one loop. A connection keeps the head of the list of its memberships; a group
/// keeps the head of the list of its members.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    by_name: BTreeMap<Box<str>, u32>,
    groups: Slab<Group>,
    members: Slab<Membership>,
    /// Groups that came (`true`) or went since they were last asked for, where somebody watches.
    news: Vec<(Box<str>, bool)>,
    is_watched: bool,
}

#[derive(Debug)]
struct Group {
    name: Box<str>,
    first: u32,
}

#[derive(Debug)]
struct Membership {
    connection: Key,
    group: u32,
    /// The next membership of the same connection.
    next_of_connection: u32,
    next_in_group: u32,
    previous_in_group: u32,
}

/// A walk over a group's members that may be left and taken up again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walk {
    next: u32,
}

impl Groups {
    /// Adds a connection, whose list of memberships begins at `head`; returns the new head. A
    /// connection that is a member already stays one.
    pub(crate) fn join(&mut self, connection: Key, head: u32, name: &str) -> u32 {
        let group = match self.by_name.get(name) {
            Some(group) => *group,
            None => {
                let Ok(key) = self.groups.insert(Group { name: name.into(), first: NONE }) else {
                    return head;
                };
                self.by_name.insert(name.into(), key.index());
                if self.is_watched {
                    self.news.push((name.into(), true));
                }
                key.index()
            }
        };
        if self.find(head, group).is_some() {
            return head;
        }
        let first = self.groups.at(group).map_or(NONE, |group| group.first);
        let membership = Membership {
            connection,
            group,
            next_of_connection: head,
            next_in_group: first,
            previous_in_group: NONE,
        };
        let Ok(key) = self.members.insert(membership) else { return head };
        if let Some((_, first)) = self.members.at_mut(first) {
            first.previous_in_group = key.index();
        }
        if let Some((_, group)) = self.groups.at_mut(group) {
            group.first = key.index();
        }
        key.index()
    }

    /// Takes a connection out of one group; returns the new head of its list.
    pub(crate) fn leave(&mut self, head: u32, name: &str, walks: &mut [&mut Walk]) -> u32 {
        let Some(group) = self.by_name.get(name).copied() else { return head };
        let Some((before, at)) = self.find(head, group) else { return head };
        let next = self.members.at(at).map_or(NONE, |member| member.next_of_connection);
        self.unlink(at, walks);
        match before {
            None => next,
            Some(before) => {
                if let Some((_, before)) = self.members.at_mut(before) {
                    before.next_of_connection = next;
                }
                head
            }
        }
    }

    /// Takes a connection out of all its groups.
    pub(crate) fn leave_all(&mut self, head: u32, walks: &mut [&mut Walk]) {
        let mut at = head;
        while let Some(member) = self.members.at(at) {
            let next = member.next_of_connection;
            self.unlink(at, walks);
            at = next;
        }
    }

    /// The names of the groups of a connection, whose list of memberships begins at `head`.
    pub(crate) fn names(&self, head: u32) -> Vec<Box<str>> {
        let (mut names, mut at) = (Vec::new(), head);
        while let Some(member) = self.members.at(at) {
            names.extend(self.groups.at(member.group).map(|group| group.name.clone()));
            at = member.next_of_connection;
        }
        names
    }

    /// Begins a walk over the members of a group.
    pub(crate) fn walk(&self, name: &str) -> Walk {
        let group = self.by_name.get(name).and_then(|group| self.groups.at(*group));
        Walk { next: group.map_or(NONE, |group| group.first) }
    }

    /// The next member of a walk.
    pub(crate) fn next(&self, walk: &mut Walk) -> Option<Key> {
        let member = self.members.at(walk.next)?;
        walk.next = member.next_in_group;
        Some(member.connection)
    }

    /// How many groups have members.
    pub(crate) fn len(&self) -> usize {
        self.groups.len()
    }

    /// From now on, groups that come and go are noted, as if those that exist had just come.
    pub(crate) fn watch(&mut self) {
        self.is_watched = true;
        self.news = self.by_name.keys().map(|name| (name.clone(), true)).collect();
    }

    /// Groups that came (`true`) or went.
    pub(crate) fn take_news(&mut self) -> Vec<(Box<str>, bool)> {
        std::mem::take(&mut self.news)
    }

    /// The connection's membership in a group, and the one before it in the connection's list.
    fn find(&self, head: u32, group: u32) -> Option<(Option<u32>, u32)> {
        let (mut before, mut at) = (None, head);
        while let Some(member) = self.members.at(at) {
            if member.group == group {
                return Some((before, at));
            }
            before = Some(at);
            at = member.next_of_connection;
        }
        None
    }

    /// Takes a membership out of its group, which goes with its last member. Walks that stand on
    /// it move on.
    fn unlink(&mut self, at: u32, walks: &mut [&mut Walk]) {
        let Some((key, _)) = self.members.at_mut(at) else { return };
        let Some(member) = self.members.remove(key) else { return };
        for walk in walks.iter_mut().filter(|walk| walk.next == at) {
            walk.next = member.next_in_group;
        }
        if let Some((_, next)) = self.members.at_mut(member.next_in_group) {
            next.previous_in_group = member.previous_in_group;
        }
        if let Some((_, previous)) = self.members.at_mut(member.previous_in_group) {
            previous.next_in_group = member.next_in_group;
            return;
        }
        let Some((key, group)) = self.groups.at_mut(member.group) else { return };
        group.first = member.next_in_group;
        if group.first == NONE
            && let Some(group) = self.groups.remove(key)
        {
            self.by_name.remove(&group.name);
            if self.is_watched {
                self.news.push((group.name, false));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(groups: &Groups, name: &str) -> Vec<Key> {
        let mut walk = groups.walk(name);
        let mut found: Vec<Key> = std::iter::from_fn(|| groups.next(&mut walk)).collect();
        found.sort_unstable();
        found
    }

    #[test]
    fn does_a_random_history_agree_with_a_set() {
        let mut state = 7u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(state >> 40).unwrap()
        };
        let keys: Vec<Key> = (0..20).map(|n| Key::from_bits(n | n << 40)).collect();
        let names = ["a", "b", "c"];
        let mut groups = Groups::default();
        let mut heads = [NONE; 20];
        let mut model = std::collections::BTreeSet::new();
        for _ in 0..5000 {
            let (at, name) = (random() % 20, names[random() % 3]);
            match random() % 5 {
                0 | 1 => {
                    heads[at] = groups.join(keys[at], heads[at], name);
                    model.insert((name, keys[at]));
                }
                2 | 3 => {
                    heads[at] = groups.leave(heads[at], name, &mut []);
                    model.remove(&(name, keys[at]));
                }
                _ => {
                    groups.leave_all(heads[at], &mut []);
                    heads[at] = NONE;
                    model.retain(|(_, key)| *key != keys[at]);
                }
            }
            for name in names {
                let expected: Vec<Key> =
                    model.iter().filter(|(of, _)| *of == name).map(|(_, key)| *key).collect();
                assert_eq!(members(&groups, name), expected);
            }
            assert_eq!(groups.members.len(), model.len());
        }
        assert!(groups.len() <= 3);
    }

    #[test]
    fn does_a_walk_go_on_when_the_member_it_stands_on_leaves() {
        let mut groups = Groups::default();
        let keys: Vec<Key> = (0..3).map(Key::from_bits).collect();
        let heads: Vec<u32> = keys.iter().map(|key| groups.join(*key, NONE, "all")).collect();
        let mut walk = groups.walk("all");
        assert_eq!(groups.next(&mut walk), Some(keys[2]));
        groups.leave_all(heads[1], &mut [&mut walk]);
        assert_eq!(groups.next(&mut walk), Some(keys[0]));
        assert_eq!(groups.next(&mut walk), None);
    }
}
