//! `term_counts(tokens [, include])`: how often each token comes, and in how many lists, exactly.
//!
//! The result is a struct: `documents`, the number of lists; `nulls`, how many lists and tokens are null; and `terms`,
//! a list of structs `term, count, documents` in ascending byte order of the terms, or null for a column of more than
//! [`MAX_TERMS`] distinct terms. Rows for which `include` is not true are left out.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, ListArray, StringArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Int64Type};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{AggregateUDF, Expr};

use super::aggregate::{self, Aggregate};
use super::exact::take;
use super::support;
use super::text_map::TextMap;

/// Distinct terms that are counted: some 100 MiB for each partition.
pub const MAX_TERMS: usize = 1 << 20;

const NAME: &str = "term_counts";

/// The function.
pub fn udaf() -> Arc<AggregateUDF> {
    aggregate::udaf::<TermCountsOf>()
}

/// A call of the function.
pub fn term_counts(tokens: Expr) -> Expr {
    udaf().call(vec![tokens])
}

/// What the function gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TermCounts {
    /// How many lists there are.
    pub documents: u64,
    /// How many lists and tokens are null.
    pub nulls: u64,
    /// The terms by byte order; none when there are too many of them.
    pub terms: Option<Vec<Term>>,
}

/// One of the terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// The token.
    pub term: String,
    /// How often it comes.
    pub count: u64,
    /// In how many lists it comes.
    pub documents: u64,
}

/// Reads the function's result.
///
/// # Errors
/// A value that the function did not give.
pub fn from_scalar(value: &ScalarValue) -> Result<TermCounts> {
    let ScalarValue::Struct(result) = value else {
        return exec_err!("expected the struct that {NAME} gives, got {}", value.data_type());
    };
    let number = |index: usize| result.column(index).as_primitive_opt::<Int64Type>().map(|n| n.value(0) as u64);
    let (Some(documents), Some(nulls), Some(terms)) = (number(0), number(1), result.column(2).as_list_opt::<i32>())
    else {
        return support::damaged(NAME);
    };
    let terms = if terms.is_null(0) { None } else { Some(terms_of(&terms.value(0))?) };
    Ok(TermCounts { documents, nulls, terms })
}

fn terms_of(entries: &ArrayRef) -> Result<Vec<Term>> {
    let Some([terms, counts, documents]) = entries.as_struct_opt().map(StructArray::columns) else {
        return support::damaged(NAME);
    };
    let (Some(terms), Some(counts), Some(documents)) = (
        terms.as_string_opt::<i32>(),
        counts.as_primitive_opt::<Int64Type>(),
        documents.as_primitive_opt::<Int64Type>(),
    ) else {
        return support::damaged(NAME);
    };
    let numbers = counts.values().iter().zip(documents.values());
    let term = |(term, (&count, &documents)): (Option<&str>, (&i64, &i64))| Term {
        term: term.unwrap_or("").to_owned(),
        count: count as u64,
        documents: documents as u64,
    };
    Ok(terms.iter().zip(numbers).map(term).collect())
}

fn term_fields() -> Fields {
    Fields::from(vec![
        Field::new("term", DataType::Utf8, false),
        Field::new("count", DataType::Int64, false),
        Field::new("documents", DataType::Int64, false),
    ])
}

fn term_field() -> FieldRef {
    Arc::new(Field::new_list_field(DataType::Struct(term_fields()), true))
}

fn result_fields() -> Fields {
    Fields::from(vec![
        Field::new("documents", DataType::Int64, false),
        Field::new("nulls", DataType::Int64, false),
        Field::new("terms", DataType::List(term_field()), true),
    ])
}

#[derive(Debug)]
struct TermCountsOf {
    documents: u64,
    nulls: u64,
    /// None once there are too many.
    terms: Option<TextMap<Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    count: u64,
    documents: u64,
    /// The number of the last list here that had it, so that it counts once in each.
    last_document: u64,
}

impl TermCountsOf {
    fn none() -> Self {
        Self { documents: 0, nulls: 0, terms: Some(TextMap::default()) }
    }

    /// The counts of a term, unless there are too many terms.
    fn counts_of(&mut self, term: &str) -> Option<&mut Counts> {
        let terms = self.terms.as_ref()?;
        if terms.len() == MAX_TERMS && terms.get(term).is_none() {
            self.terms = None;
        }
        Some(self.terms.as_mut()?.get_or_default(term))
    }

    fn add_document(&mut self, tokens: &StringArray, bounds: std::ops::Range<usize>) {
        self.documents += 1;
        let document = self.documents;
        for i in bounds {
            if tokens.is_null(i) {
                self.nulls += 1;
            } else if let Some(counts) = self.counts_of(tokens.value(i)) {
                counts.count += 1;
                counts.documents += u64::from(counts.last_document != document);
                counts.last_document = document;
            }
        }
    }

    fn term_list(&mut self) -> Result<ListArray> {
        let Some(terms) = &mut self.terms else {
            return Ok(ListArray::new_null(term_field(), 1));
        };
        let terms = terms.sorted();
        let texts = StringArray::from_iter_values(terms.iter().map(|(term, _)| term));
        let number = |of: fn(&Counts) -> u64| Int64Array::from_iter_values(terms.iter().map(|(_, n)| of(n) as i64));
        let columns: Vec<ArrayRef> =
            vec![Arc::new(texts), Arc::new(number(|n| n.count)), Arc::new(number(|n| n.documents))];
        let entries = StructArray::try_new(term_fields(), columns, None)?;
        let offsets = OffsetBuffer::from_lengths([entries.len()]);
        Ok(ListArray::try_new(term_field(), offsets, Arc::new(entries), None)?)
    }
}

impl Aggregate for TermCountsOf {
    const NAME: &'static str = NAME;

    fn coerce_types(arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let (tokens, include) = match arg_types {
            [tokens] => (tokens, None),
            [tokens, include] => (tokens, Some(include)),
            _ => return plan_err!("{NAME} takes a list of text, got {} arguments", arg_types.len()),
        };
        if !matches!(tokens, DataType::List(_) | DataType::LargeList(_) | DataType::Null) {
            return plan_err!("{NAME} takes a list of text, got {tokens}");
        }
        include.map_or(Ok(()), |include| support::check_condition(NAME, include))?;
        let types = [support::tokens_type(), DataType::Boolean];
        Ok(types.into_iter().take(arg_types.len()).collect())
    }

    fn return_type(_arg_types: &[DataType]) -> DataType {
        DataType::Struct(result_fields())
    }

    fn new(_args: &AccumulatorArgs<'_>) -> Result<Self> {
        Ok(Self::none())
    }

    fn update(&mut self, values: &[ArrayRef]) -> Result<()> {
        let lists = values.first().and_then(|v| v.as_list_opt::<i32>());
        let Some((lists, tokens)) = lists.and_then(|lists| Some((lists, lists.values().as_string_opt::<i32>()?)))
        else {
            return exec_err!(
                "{NAME}: expected a list of Utf8, got {:?}",
                values.first().map(|v| v.data_type().clone())
            );
        };
        let include = support::condition(values);
        for (row, bounds) in
            lists.offsets().windows(2).enumerate().filter(|(row, _)| support::is_included(include, *row))
        {
            if lists.is_null(row) {
                self.documents += 1;
                self.nulls += 1;
            } else {
                self.add_document(tokens, bounds[0] as usize..bounds[1] as usize);
            }
        }
        Ok(())
    }

    /// The numbers of lists and nulls, whether there are not too many terms, and each term with its counts.
    fn to_bytes(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.documents.to_le_bytes());
        bytes.extend(self.nulls.to_le_bytes());
        bytes.push(u8::from(self.terms.is_some()));
        for (term, counts) in self.terms.as_mut().map(TextMap::sorted).unwrap_or_default() {
            support::put_text(&mut bytes, &term);
            bytes.extend(counts.count.to_le_bytes());
            bytes.extend(counts.documents.to_le_bytes());
        }
        bytes
    }

    fn merge(&mut self, mut bytes: &[u8]) -> Option<()> {
        let bytes = &mut bytes;
        let (documents, nulls) = (u64::from_le_bytes(take(bytes)?), u64::from_le_bytes(take(bytes)?));
        let [has_terms] = take(bytes)?;
        while !bytes.is_empty() {
            let term = support::take_text(bytes)?;
            let (count, documents) = (u64::from_le_bytes(take(bytes)?), u64::from_le_bytes(take(bytes)?));
            if let Some(counts) = self.counts_of(term) {
                counts.count += count;
                counts.documents += documents;
            }
        }
        if has_terms == 0 {
            self.terms = None;
        }
        self.documents += documents;
        self.nulls += nulls;
        Some(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let number = |number: u64| Arc::new(Int64Array::from(vec![number as i64])) as ArrayRef;
        let columns = vec![number(self.documents), number(self.nulls), Arc::new(self.term_list()?) as ArrayRef];
        Ok(ScalarValue::Struct(Arc::new(StructArray::try_new(result_fields(), columns, None)?)))
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.terms.as_ref().map_or(0, TextMap::heap_bytes)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{BooleanArray, ListBuilder, StringBuilder};

    use super::*;

    const ROWS: [Option<&[Option<&str>]>; 5] = [
        Some(&[Some("b"), Some("a"), Some("b")]),
        None,
        Some(&[]),
        Some(&[Some("b"), None, Some("")]),
        Some(&[Some("é"), Some("b")]),
    ];

    fn added(rows: &[Option<&[Option<&str>]>], include: Option<Vec<Option<bool>>>) -> TermCountsOf {
        let mut lists = ListBuilder::new(StringBuilder::new());
        rows.iter().for_each(|row| lists.append_option(row.map(|row| row.iter().copied())));
        let mut values: Vec<ArrayRef> = vec![Arc::new(lists.finish())];
        values.extend(include.map(|include| Arc::new(BooleanArray::from(include)) as ArrayRef));
        let mut terms = TermCountsOf::none();
        terms.update(&values).unwrap();
        terms
    }

    fn found(terms: &mut TermCountsOf) -> (u64, u64, Vec<(String, u64, u64)>) {
        let counts = from_scalar(&terms.evaluate().unwrap()).unwrap();
        let terms = counts.terms.unwrap().into_iter().map(|term| (term.term, term.count, term.documents));
        (counts.documents, counts.nulls, terms.collect())
    }

    #[test]
    fn merging_parts_is_counting_all() {
        let expected = [("", 1, 1), ("a", 1, 1), ("b", 4, 3), ("é", 1, 1)].map(|(t, n, d)| (t.to_owned(), n, d));
        let mut all = added(&ROWS, None);
        assert_eq!(found(&mut all), (5, 2, expected.to_vec()));
        for cut in 0..=ROWS.len() {
            let mut right = added(&ROWS[cut..], None);
            right.merge(&added(&ROWS[..cut], None).to_bytes()).unwrap();
            assert_eq!(right.to_bytes(), all.to_bytes());
        }
    }

    #[test]
    fn rows_that_are_not_included_count_nowhere() {
        let include = vec![Some(true), None, Some(false), Some(false), Some(true)];
        let mut some = added(&ROWS, Some(include));
        let expected = [("a", 1, 1), ("b", 3, 2), ("é", 1, 1)].map(|(t, n, d)| (t.to_owned(), n, d));
        assert_eq!(found(&mut some), (2, 0, expected.to_vec()));
    }

    #[test]
    fn too_many_terms_are_none_in_any_order() {
        let mut many = TermCountsOf::none();
        (0..MAX_TERMS).for_each(|i| many.counts_of(&i.to_string()).unwrap().count += 1);
        let mut one_more = added(&[Some(&[Some("more")])], None);
        one_more.merge(&many.to_bytes()).unwrap();
        many.merge(&added(&[Some(&[Some("more")])], None).to_bytes()).unwrap();
        for mut terms in [one_more, many] {
            assert_eq!(from_scalar(&terms.evaluate().unwrap()).unwrap().terms, None);
        }
    }

    #[test]
    fn damaged_bytes_are_refused() {
        let bytes = added(&ROWS[..1], None).to_bytes();
        assert!((18..bytes.len()).all(|len| len == 38 || TermCountsOf::none().merge(&bytes[..len]).is_none()));
    }
}
