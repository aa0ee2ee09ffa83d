//! Labels by their hash, built once for each literal list and not for each batch.

use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use arrow::array::{Array, AsArray, ListArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::{HashMap, Result};

use super::text_map::{TextKey, TextMap};

/// Lists whose tables are kept: many pipelines of hundreds of columns. One more, and all are built anew.
const MAX_TABLES: usize = 16_384;

/// The tables by the address of their list. An entry's weak reference keeps the address from being used again.
static TABLES: LazyLock<Mutex<HashMap<usize, Entry>>> = LazyLock::new(Mutex::default);

struct Entry {
    list: Weak<ListArray>,
    table: Arc<LabelTable>,
}

/// The place of each label in a list.
#[derive(Debug)]
pub(super) struct LabelTable {
    places: TextMap<usize>,
    len: usize,
}

impl LabelTable {
    /// The table of a literal list of text.
    ///
    /// It is kept for as long as the list is there and no other list has come since: a plan has one list for all of its
    /// batches.
    pub(super) fn of(list: &Arc<ListArray>) -> Result<Arc<Self>> {
        let address = Arc::as_ptr(list).addr();
        let mut tables = TABLES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = tables.get(&address) {
            return Ok(Arc::clone(&entry.table));
        }
        let table = Arc::new(Self::new(list)?);
        tables.retain(|_, entry| entry.list.strong_count() > 0);
        if tables.len() >= MAX_TABLES {
            tables.clear();
        }
        tables.insert(address, Entry { list: Arc::downgrade(list), table: Arc::clone(&table) });
        Ok(table)
    }

    fn new(list: &ListArray) -> Result<Self> {
        let labels = cast(&list.value(0), &DataType::Utf8)?;
        let mut places = TextMap::default();
        for (place, label) in labels.as_string::<i32>().iter().enumerate() {
            if let Some(label) = label {
                *places.get_or_default(label) = place;
            }
        }
        Ok(Self { places, len: labels.len() })
    }

    /// How many labels there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The place of a label.
    pub(super) fn find<'a>(&self, label: impl Into<TextKey<'a>>) -> Option<usize> {
        self.places.get(label).copied()
    }
}

#[cfg(test)]
mod tests {
    use datafusion::common::ScalarValue;

    use super::*;

    fn list(labels: &[&str]) -> Arc<ListArray> {
        let labels: Vec<ScalarValue> = labels.iter().map(|&label| label.into()).collect();
        ScalarValue::new_list_nullable(&labels, &DataType::Utf8)
    }

    #[test]
    fn one_list_has_one_table() {
        let (a, b) = (list(&["x", "y"]), list(&["y", "x"]));
        let table = LabelTable::of(&a).unwrap();
        assert!(Arc::ptr_eq(&table, &LabelTable::of(&a).unwrap()));
        assert_eq!((table.len(), table.find("y"), table.find("z")), (2, Some(1), None));
        assert_eq!(LabelTable::of(&b).unwrap().find("y"), Some(0));
    }

    #[test]
    fn lists_that_come_and_go_are_told_apart() {
        for number in 0..1000 {
            let label = number.to_string();
            assert_eq!(LabelTable::of(&list(&[&label])).unwrap().find(label.as_str()), Some(0));
        }
        // One entry at most is left of lists that are gone.
        let gone = |entry: &&Entry| entry.list.strong_count() == 0;
        let _alive = LabelTable::of(&list(&["alive"])).unwrap();
        assert!(TABLES.lock().unwrap().values().filter(gone).count() < 100);
    }
}
