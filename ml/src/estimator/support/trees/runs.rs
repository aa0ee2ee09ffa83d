//! Candidates that grow the same trees, up to their number.

use std::collections::BTreeMap;

use crate::{MlError, Result};

/// Parameters of trees that are grown one after the other.
pub(crate) trait TreeParams: Clone + PartialEq {
    /// The most bins of a column.
    fn max_bins(&self) -> usize;

    /// How many trees, or rounds of trees.
    fn n_trees(&self) -> usize;

    /// The same with another number of trees.
    fn with_n_trees(&self, n_trees: usize) -> Self;
}

/// Candidates whose trees are the same up to where the shorter ends.
#[derive(Debug)]
pub(crate) struct Run<P> {
    /// The parameters, with the largest number of trees.
    pub(crate) params: P,
    /// The candidates' places in the group and their numbers of trees.
    members: Vec<(usize, usize)>,
}

/// Fits the candidates that parse: those of one `max_bins` together, each run of them once. `grow` gives what was grown
/// for each run, and `model` makes a candidate's model of its first trees. One result per candidate, in their order.
pub(crate) fn fit_runs<P: TreeParams, G, M>(
    estimator: &str,
    parsed: Vec<Result<P>>,
    grow: impl Fn(usize, &[Run<P>]) -> Vec<Result<G>>,
    model: impl Fn(&P, &G, usize) -> M,
) -> Vec<Result<M>> {
    let mut results: Vec<Option<Result<M>>> = parsed.iter().map(|_| None).collect();
    for (max_bins, runs) in group(&parsed) {
        for (run, grown) in runs.iter().zip(grow(max_bins, &runs)) {
            for &(i, n_trees) in &run.members {
                results[i] = Some(match &grown {
                    Ok(grown) => Ok(model(&run.params, grown, n_trees)),
                    Err(MlError::Cancelled) => Err(MlError::Cancelled),
                    // One error is each member's, in the same words.
                    Err(MlError::Invalid(why)) => Err(MlError::Invalid(why.clone())),
                    Err(e) => Err(MlError::Internal(e.to_string())),
                });
            }
        }
    }
    let missing = || Err(MlError::Internal(format!("a candidate of {estimator} was not fitted")));
    parsed.into_iter().zip(results).map(|(p, r)| p.and_then(|_| r.unwrap_or_else(missing))).collect()
}

/// The runs by `max_bins`.
fn group<P: TreeParams>(parsed: &[Result<P>]) -> BTreeMap<usize, Vec<Run<P>>> {
    let mut groups: BTreeMap<usize, Vec<Run<P>>> = BTreeMap::new();
    for (i, params) in parsed.iter().enumerate() {
        let Ok(params) = params else { continue };
        let n_trees = params.n_trees();
        let runs = groups.entry(params.max_bins()).or_default();
        match runs.iter_mut().find(|run| run.params.with_n_trees(0) == params.with_n_trees(0)) {
            Some(run) => {
                run.members.push((i, n_trees));
                run.params = run.params.with_n_trees(run.params.n_trees().max(n_trees));
            }
            None => runs.push(Run { params: params.clone(), members: vec![(i, n_trees)] }),
        }
    }
    groups
}
