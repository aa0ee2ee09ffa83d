//! Which stages are evaluated together.

/// What a stage reads, writes and drops.
pub(super) struct Access<'a> {
    pub(super) inputs: &'a [String],
    pub(super) outputs: Vec<String>,
    pub(super) drops_rows: bool,
}

/// The stages of each level, in their order.
///
/// All stages of a level see the columns as they were before it. So a stage comes after the last writer of what it
/// reads and writes, not before an earlier reader of what it writes, after any earlier stage that drops rows, and, when
/// it drops rows itself, not before any earlier stage: levels and the order of stages mean the same.
pub(super) fn levels(stages: &[Access<'_>]) -> Vec<Vec<usize>> {
    let mut level_of: Vec<usize> = Vec::with_capacity(stages.len());
    for (i, stage) in stages.iter().enumerate() {
        let earlier = stages[..i].iter().zip(&level_of);
        let level = earlier.map(|(other, &level)| lowest_after(stage, other, level)).max().unwrap_or(0);
        level_of.push(level);
    }
    let n_levels = level_of.iter().max().map_or(0, |max| max + 1);
    let stages_of = |level: usize| (0..stages.len()).filter(|&i| level_of[i] == level).collect();
    (0..n_levels).map(stages_of).collect()
}

/// The lowest level that `stage` may have with `earlier` at `level`.
fn lowest_after(stage: &Access<'_>, earlier: &Access<'_>, level: usize) -> usize {
    let reads_it = stage.inputs.iter().any(|c| earlier.outputs.contains(c));
    let writes_over_it = stage.outputs.iter().any(|c| earlier.outputs.contains(c));
    let replaces_its_input = stage.outputs.iter().any(|c| earlier.inputs.contains(c));
    if reads_it || writes_over_it || earlier.drops_rows {
        level + 1
    } else if replaces_its_input || stage.drops_rows {
        level
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(stages: &[(&[&str], &[&str], bool)], expected: &[&[usize]]) {
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let inputs: Vec<Vec<String>> = stages.iter().map(|s| names(s.0)).collect();
        let accesses: Vec<Access<'_>> = stages
            .iter()
            .zip(&inputs)
            .map(|(s, inputs)| Access { inputs, outputs: names(s.1), drops_rows: s.2 })
            .collect();
        assert_eq!(levels(&accesses), expected);
    }

    #[test]
    fn independent_stages_share_a_level() {
        check(&[(&["a"], &["a"], false), (&["b"], &["b"], false), (&["a"], &["a"], false)], &[&[0, 1], &[2]]);
    }

    #[test]
    fn a_column_is_not_replaced_before_its_reader() {
        let chain: &[(&[&str], &[&str], bool)] =
            &[(&["x"], &["x"], false), (&["x", "a"], &["y"], false), (&["a"], &["a"], false)];
        check(chain, &[&[0], &[1, 2]]);
    }

    #[test]
    fn dropped_rows_are_not_seen_by_later_stages() {
        check(&[(&["a"], &["a"], true), (&["b"], &["b"], false)], &[&[0], &[1]]);
        check(&[(&["a"], &["a"], false), (&["a"], &["a"], false), (&["b"], &["b"], true)], &[&[0], &[1, 2]]);
    }
}
