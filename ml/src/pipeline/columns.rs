//! Other columns for the columns of an expression.

use std::collections::HashMap;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::Expr;

use crate::Result;

/// The expression with each column that `columns` names replaced by its expression there.
pub(super) fn replace_columns(expr: Expr, columns: &HashMap<String, Expr>) -> Result<Expr> {
    let replaced = expr.transform_up(|node| {
        Ok(match &node {
            Expr::Column(column) => match columns.get(&column.name) {
                Some(other) => Transformed::yes(other.clone()),
                None => Transformed::no(node),
            },
            _ => Transformed::no(node),
        })
    })?;
    Ok(replaced.data)
}
