//! Whether a commit that came first stands in the way of ours. Pure.

use deltalake_core::kernel::Action;

use super::commit::DeltaOperation;
use crate::files::PartitionValues;

/// What stands in the way of `operation` in a commit that landed after the version it was based on.
pub(super) fn conflict(operation: &DeltaOperation, partition_columns: &[String], landed: &[Action]) -> Option<String> {
    landed.iter().find_map(|action| match action {
        Action::Metadata(_) => Some("changed the table's schema or properties".to_owned()),
        Action::Protocol(_) => Some("changed the table's protocol".to_owned()),
        Action::Add(add) if add.data_change => {
            touched(operation, &PartitionValues::ordered(partition_columns, &add.partition_values))
        }
        Action::Remove(remove) if remove.data_change => {
            let values = remove.partition_values.clone().unwrap_or_default();
            touched(operation, &PartitionValues::ordered(partition_columns, &values))
        }
        _ => None,
    })
}

fn touched(operation: &DeltaOperation, values: &PartitionValues) -> Option<String> {
    operation.replaces(values).then(|| match operation {
        DeltaOperation::OverwritePartitions(_) => format!("wrote the partition {values}, which this one replaces"),
        _ => "wrote rows that this one replaces".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use deltalake_core::kernel::{Add, Remove, Transaction};

    use super::*;

    fn add(ds: &str) -> Action {
        Action::Add(Add {
            partition_values: HashMap::from([("ds".to_owned(), Some(ds.to_owned()))]),
            data_change: true,
            ..Add::default()
        })
    }

    fn replace(ds: &str) -> DeltaOperation {
        DeltaOperation::OverwritePartitions(vec![PartitionValues(vec![Some(ds.to_owned())])])
    }

    fn check(operation: &DeltaOperation, landed: &[Action]) -> bool {
        conflict(operation, &["ds".to_owned()], landed).is_some()
    }

    #[test]
    fn other_partitions_do_not_conflict_and_the_same_do() {
        assert!(!check(&replace("a"), &[add("b")]));
        assert!(check(&replace("a"), &[add("b"), add("a")]));
    }

    #[test]
    fn an_append_conflicts_with_no_rows() {
        assert!(!check(&DeltaOperation::Append, &[add("a")]));
        assert!(check(&DeltaOperation::OverwriteAll, &[add("a")]));
    }

    #[test]
    fn a_removed_file_conflicts_and_a_compacted_one_does_not() {
        let remove = |data_change| {
            Action::Remove(Remove {
                partition_values: Some(HashMap::from([("ds".to_owned(), Some("a".to_owned()))])),
                data_change,
                ..Remove::default()
            })
        };
        assert!(check(&replace("a"), &[remove(true)]));
        assert!(!check(&replace("a"), &[remove(false)]));
    }

    #[test]
    fn a_transaction_alone_does_not_conflict() {
        assert!(!check(&DeltaOperation::OverwriteAll, &[Action::Txn(Transaction::new("app", 1))]));
    }
}
