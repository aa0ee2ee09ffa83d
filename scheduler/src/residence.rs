//! Which executor keeps which shards: pure decisions over names and counts, no clocks, no locks.
//!
//! Passes over shards come one after the other, and what an executor gathered of a shard serves the next pass. So a
//! shard's part of a pass goes to the executor that had it last, and waits for it while it is busy; shards that no executor
//! has, or whose executor is gone, are dealt evenly. What an executor is given at a time is one task.

use std::collections::{HashMap, HashSet, VecDeque};

/// How many residences are known: the least recently used goes first, and its shards are dealt anew.
const MAX_RESIDENCES: usize = 64;

/// The executors of shards, by residence.
#[derive(Debug, Default)]
pub(crate) struct Residences {
    known: VecDeque<(String, Homes)>,
}

/// The executor of each shard of one residence.
type Homes = HashMap<usize, String>;

/// What executors can take.
#[derive(Debug)]
pub(crate) struct Executors<'a> {
    /// Those with free vcores, and how many.
    pub(crate) free: Vec<(&'a str, u32)>,
    /// Those that have running tasks.
    pub(crate) busy: &'a HashSet<String>,
}

impl Executors<'_> {
    fn len(&self) -> usize {
        self.free.len() + self.busy.iter().filter(|id| !self.free.iter().any(|(free, _)| free == id)).count()
    }

    fn is_alive(&self, id: &str) -> bool {
        self.busy.contains(id) || self.free.iter().any(|(free, _)| *free == id)
    }
}

impl Residences {
    /// Gives pending shards, of so many in all, to executors with free vcores; by place among these. What is not given
    /// waits for its executor.
    pub(crate) fn place(
        &mut self,
        residence: &str,
        pending: &[usize],
        n_shards: usize,
        executors: &Executors<'_>,
    ) -> Vec<Vec<usize>> {
        let mut given = vec![Vec::new(); executors.free.len()];
        let fair = n_shards.div_ceil(executors.len().max(1));
        let homes = self.homes(residence);
        homes.retain(|_, home| executors.is_alive(home));
        for &shard in pending {
            let place = match homes.get(&shard) {
                Some(home) => executors.free.iter().position(|(id, vcores)| id == home && *vcores > 0),
                None => emptiest(homes, executors, fair),
            };
            let Some(place) = place else { continue };
            homes.insert(shard, executors.free[place].0.to_owned());
            given[place].push(shard);
        }
        given
    }

    fn homes(&mut self, residence: &str) -> &mut Homes {
        let place = self.known.iter().position(|(name, _)| name == residence);
        let entry = place.and_then(|i| self.known.remove(i)).unwrap_or_else(|| (residence.to_owned(), Homes::new()));
        if self.known.len() >= MAX_RESIDENCES {
            self.known.pop_front();
        }
        self.known.push_back(entry);
        let last = self.known.len() - 1;
        &mut self.known[last].1
    }
}

/// The executor with a free vcore that has the fewest shards, if they are fewer than its fair part.
fn emptiest(homes: &Homes, executors: &Executors<'_>, fair: usize) -> Option<usize> {
    let n_shards = |id: &str| homes.values().filter(|home| *home == id).count();
    let able = executors.free.iter().enumerate().filter(|(_, (_, vcores))| *vcores > 0);
    let able = able.map(|(place, (id, _))| (n_shards(id), place)).filter(|(n, _)| *n < fair);
    able.min().map(|(_, place)| place)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(
        residences: &mut Residences,
        pending: &[usize],
        free: &[(&'static str, u32)],
        busy: &[&str],
    ) -> Vec<Vec<usize>> {
        let busy = busy.iter().map(|id| (*id).to_owned()).collect();
        residences.place("r", pending, 4, &Executors { free: free.to_vec(), busy: &busy })
    }

    #[test]
    fn shards_are_dealt_evenly_and_come_back() {
        let mut residences = Residences::default();
        assert_eq!(place(&mut residences, &[0, 1, 2, 3], &[("a", 1), ("b", 1)], &[]), [[0, 2], [1, 3]]);
        // The next pass: whoever is free has its own.
        assert_eq!(place(&mut residences, &[0, 1, 2, 3], &[("b", 1)], &["a"]), [[1, 3]]);
        assert_eq!(place(&mut residences, &[0, 2], &[("b", 1), ("a", 1)], &[]), [vec![], vec![0, 2]]);
        assert_eq!(place(&mut residences, &[0, 1, 2, 3], &[("a", 2), ("b", 0)], &[]), [vec![0, 2], vec![]]);
    }

    #[test]
    fn who_comes_late_gets_its_part() {
        let mut residences = Residences::default();
        assert_eq!(place(&mut residences, &[0, 1, 2, 3], &[("a", 1)], &["b"]), [[0, 1]]);
        assert_eq!(place(&mut residences, &[2, 3], &[("b", 1)], &["a"]), [[2, 3]]);
    }

    #[test]
    fn a_shard_waits_for_its_executor_while_that_lives() {
        let mut residences = Residences::default();
        place(&mut residences, &[0, 1, 2, 3], &[("a", 2), ("b", 2)], &[]);
        assert_eq!(place(&mut residences, &[0], &[("b", 2)], &["a"]), [[0; 0]; 1]);
        assert_eq!(place(&mut residences, &[0], &[("b", 2)], &[]), [[0]]);
        assert_eq!(place(&mut residences, &[0, 1, 2, 3], &[("b", 4)], &[]), [[0, 1, 2, 3]]);
    }

    #[test]
    fn residences_do_not_mix() {
        let mut residences = Residences::default();
        place(&mut residences, &[0], &[("a", 1)], &["b"]);
        let busy = HashSet::from(["a".to_owned()]);
        let given = residences.place("other", &[0], 1, &Executors { free: vec![("b", 1)], busy: &busy });
        assert_eq!(given, [[0]]);
    }
}
