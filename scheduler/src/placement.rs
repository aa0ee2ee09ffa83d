//! Where a stage's partitions go: pure decisions over counts, no clocks, no locks.

/// What one executor can still take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Free {
    /// Vcores not in use.
    pub(crate) vcores: u32,
    /// Whether it takes stages that need a GPU.
    pub(crate) gpu: bool,
}

/// What one stage asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Demand {
    /// Partitions not yet given to a task.
    pub(crate) pending: usize,
    /// Whether all of them must go into one task, because an operator in the stage merges them.
    pub(crate) collapse: bool,
    /// The most partitions that one task may take.
    pub(crate) cap: usize,
    /// Whether only executors with a GPU may run it.
    pub(crate) needs_gpu: bool,
}

/// One task to be: so many partitions on that executor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slice {
    /// Index of the executor among those offered.
    pub(crate) executor: usize,
    /// How many of the pending partitions it takes.
    pub(crate) partitions: usize,
    /// The vcores that it occupies.
    pub(crate) vcores: u32,
}

/// Gives a stage's pending partitions to executors, as evenly as their free vcores allow, and takes the vcores off.
///
/// `turn` moves the first choice among equally free executors, so single tasks do not all land on one.
pub(crate) fn place(demand: Demand, free: &mut [Free], turn: usize) -> Vec<Slice> {
    let mut slices = Vec::new();
    let mut pending = demand.pending;
    while pending > 0 {
        let candidates = candidates(demand.needs_gpu, pending, free, turn);
        if candidates.is_empty() {
            break;
        }
        let most = pending.div_ceil(candidates.len()).min(demand.cap.max(1));
        for executor in candidates {
            let (partitions, vcores) = if demand.collapse {
                (pending, 1)
            } else {
                let partitions = most.min(free[executor].vcores as usize).min(pending);
                (partitions, partitions as u32)
            };
            if partitions == 0 {
                break;
            }
            free[executor].vcores -= vcores;
            pending -= partitions;
            slices.push(Slice { executor, partitions, vcores });
        }
    }
    slices
}

/// Executors with free vcores that may take the stage, the freest first. Stages without need of a GPU leave
/// executors with one alone while the others suffice.
fn candidates(needs_gpu: bool, pending: usize, free: &[Free], turn: usize) -> Vec<usize> {
    let able = |i: &usize| free[*i].vcores > 0 && (!needs_gpu || free[*i].gpu);
    let mut able: Vec<usize> = (0..free.len()).filter(able).collect();
    let plain: Vec<usize> = able.iter().copied().filter(|i| !free[*i].gpu).collect();
    let plain_vcores: usize = plain.iter().map(|i| free[*i].vcores as usize).sum();
    if !needs_gpu && plain_vcores >= pending {
        able = plain;
    }
    if !able.is_empty() {
        let by = turn % able.len();
        able.rotate_left(by);
    }
    able.sort_by_key(|i| std::cmp::Reverse(free[*i].vcores));
    able
}

/// The order in which jobs are served: the one that holds the fewest vcores first, among equals the oldest.
pub(crate) fn order_jobs<Id: Ord>(jobs: &mut [(u32, Id)]) {
    jobs.sort();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(vcores: u32) -> Free {
        Free { vcores, gpu: false }
    }

    fn gpu(vcores: u32) -> Free {
        Free { vcores, gpu: true }
    }

    fn demand(pending: usize) -> Demand {
        Demand { pending, collapse: false, cap: usize::MAX, needs_gpu: false }
    }

    fn placed(demand: Demand, free: &mut [Free]) -> Vec<(usize, usize)> {
        place(demand, free, 0).iter().map(|s| (s.executor, s.partitions)).collect()
    }

    #[test]
    fn partitions_spread_evenly() {
        let mut free = [cpu(4), cpu(4), cpu(4)];
        assert_eq!(placed(demand(6), &mut free), [(0, 2), (1, 2), (2, 2)]);
        assert_eq!(free.map(|f| f.vcores), [2, 2, 2]);
    }

    #[test]
    fn what_does_not_fit_stays_pending() {
        let mut free = [cpu(1), cpu(2)];
        let total: usize = placed(demand(10), &mut free).iter().map(|(_, n)| n).sum();
        assert_eq!(total, 3);
        assert_eq!(free.map(|f| f.vcores), [0, 0]);
    }

    #[test]
    fn cap_bounds_each_task() {
        let mut free = [cpu(4), cpu(4)];
        let slices = placed(Demand { cap: 1, ..demand(7) }, &mut free);
        assert_eq!(slices.len(), 7);
        assert!(slices.iter().all(|(_, n)| *n == 1));
        assert_eq!(free.iter().map(|f| f.vcores).sum::<u32>(), 1);
    }

    #[test]
    fn collapse_is_one_task_of_one_vcore() {
        let mut free = [cpu(1), cpu(4)];
        let slices = place(Demand { collapse: true, cap: 1, ..demand(16) }, &mut free, 0);
        assert_eq!(slices, [Slice { executor: 1, partitions: 16, vcores: 1 }]);
        assert_eq!(free.map(|f| f.vcores), [1, 3]);
    }

    #[test]
    fn gpu_stages_go_to_gpu_executors_only() {
        let wanted = Demand { needs_gpu: true, ..demand(4) };
        assert_eq!(placed(wanted, &mut [cpu(8), gpu(1)]), [(1, 1)]);
        assert_eq!(placed(wanted, &mut [cpu(8)]), []);
        assert_eq!(placed(Demand { collapse: true, ..wanted }, &mut [cpu(8)]), []);
    }

    #[test]
    fn other_stages_spare_gpu_executors_while_they_can() {
        assert_eq!(placed(demand(2), &mut [gpu(8), cpu(2)]), [(1, 2)]);
        let spilled = placed(demand(6), &mut [gpu(8), cpu(2)]);
        assert_eq!(spilled.iter().map(|(_, n)| n).sum::<usize>(), 6);
    }

    #[test]
    fn turns_alternate_among_equals() {
        let first = |turn| place(demand(1), &mut [cpu(2), cpu(2)], turn)[0].executor;
        assert_ne!(first(0), first(1));
    }

    #[test]
    fn jobs_with_fewest_vcores_come_first() {
        let mut jobs = [(4, "a"), (0, "c"), (0, "b")];
        order_jobs(&mut jobs);
        assert_eq!(jobs, [(0, "b"), (0, "c"), (4, "a")]);
    }
}
