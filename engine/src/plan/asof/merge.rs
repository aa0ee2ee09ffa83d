//! The merge of two sides that are sorted by keys and time: a state that is fed batches and gives batches.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, new_null_array};
use arrow::compute::interleave;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::row::{OwnedRow, Row, RowConverter, Rows, SortField};
use datafusion::common::utils::memory::get_record_batch_memory_size;
use datafusion::common::{Result, internal_err};
use datafusion::execution::memory_pool::MemoryReservation;

use super::AsofSpec;
use super::time::ticks;

/// How many batches of right rows are held before those that nothing refers to are dropped: few enough to be small
/// beside the sorts' buffers, and enough for the copies to be rare.
const HELD_BATCHES: usize = 4;

/// A right row, by the batch that holds it and its place there.
pub(super) type At = (usize, usize);

/// The row of nulls.
const NO_MATCH: At = (0, 0);

/// What the merge wants or has.
pub(super) enum Step {
    /// The next left batch, or nothing more if there is none.
    NeedLeft,
    /// The next right batch, or that there is none.
    NeedRight,
    /// The output for the left batch.
    Emit(RecordBatch),
}

/// The state of a merge.
///
/// `waiting` holds the right rows of the key that are not known yet at the left's time and that may still be taken:
/// each ranks above those before it and is known later. A row that ranks below another, and is not known before it,
/// will never be taken and is not kept.
pub(super) struct Merge {
    spec: Arc<AsofSpec<usize>>,
    schema: SchemaRef,
    batch_size: usize,
    keys: RowConverter,
    ranks: RowConverter,
    left: Option<Side>,
    /// The matches of the left batch's first rows.
    matches: Vec<At>,
    right: Option<Side>,
    /// The next row of `right`.
    next: usize,
    right_ended: bool,
    held: Held,
    /// The key that `best` and `waiting` are of.
    key: Option<OwnedRow>,
    best: Option<Candidate>,
    waiting: VecDeque<Candidate>,
    memory: MemoryReservation,
}

impl Merge {
    pub(super) fn new(
        spec: Arc<AsofSpec<usize>>,
        right: &SchemaRef,
        schema: SchemaRef,
        batch_size: usize,
        memory: MemoryReservation,
    ) -> Result<Self> {
        let field = |i: usize| SortField::new(right.field(i).data_type().clone());
        Ok(Self {
            keys: RowConverter::new(spec.on.iter().map(|(_, r)| field(*r)).collect())?,
            ranks: RowConverter::new((0..right.fields().len()).map(field).collect())?,
            held: Held::new(right),
            spec,
            schema,
            batch_size,
            left: None,
            matches: Vec::new(),
            right: None,
            next: 0,
            right_ended: false,
            key: None,
            best: None,
            waiting: VecDeque::new(),
            memory,
        })
    }

    pub(super) fn push_left(&mut self, batch: RecordBatch) -> Result<()> {
        if batch.num_rows() > 0 {
            let keys: Vec<usize> = self.spec.on.iter().map(|(l, _)| *l).collect();
            self.left = Some(Side::new(batch, &self.keys, &keys, self.spec.left_time, None)?);
        }
        Ok(())
    }

    pub(super) fn push_right(&mut self, batch: RecordBatch) -> Result<()> {
        if self.held.rows() > self.held.limit.max(HELD_BATCHES * self.batch_size) {
            self.drop_unused()?;
        }
        let keys: Vec<usize> = self.spec.on.iter().map(|(_, r)| *r).collect();
        let side = Side::new(batch.clone(), &self.keys, &keys, self.spec.right_time, self.spec.known_at)?;
        self.held.push(batch);
        self.right = Some(side);
        self.next = 0;
        Ok(())
    }

    pub(super) fn end_right(&mut self) {
        self.right_ended = true;
    }

    /// Goes on as far as what was pushed allows.
    pub(super) fn step(&mut self) -> Result<Step> {
        let Some(left) = self.left.take() else { return Ok(Step::NeedLeft) };
        while self.matches.len() < left.batch.num_rows() {
            let Some(at) = self.match_row(&left, self.matches.len())? else {
                self.left = Some(left);
                return Ok(Step::NeedRight);
            };
            self.matches.push(at);
        }
        let mut columns = left.batch.columns().to_vec();
        columns.extend(self.held.take(&self.matches)?);
        self.matches.clear();
        Ok(Step::Emit(RecordBatch::try_new(Arc::clone(&self.schema), columns)?))
    }

    /// The match of a left row; `None` when it takes more of the right side to tell.
    fn match_row(&mut self, left: &Side, i: usize) -> Result<Option<At>> {
        let Some(time) = left.times[i] else { return Ok(Some(NO_MATCH)) };
        let key = left.keys.row(i);
        if self.key.as_ref().is_none_or(|k| k.row() != key) {
            self.key = Some(key.owned());
            self.best = None;
            self.waiting.clear();
        }
        if !self.advance(key, time)? {
            return Ok(None);
        }
        while self.waiting.front().is_some_and(|c| c.known <= time) {
            self.best = self.waiting.pop_front();
        }
        let near = |c: &Candidate| self.spec.tolerance.is_none_or(|t| c.time >= t.earliest(time));
        Ok(Some(self.best.filter(near).map_or(NO_MATCH, |c| c.at)))
    }

    /// Takes in the right rows up to a key and time; false when the batch ends before them.
    fn advance(&mut self, key: Row<'_>, time: i128) -> Result<bool> {
        let Some(right) = self.right.take() else { return Ok(self.right_ended) };
        let n = right.batch.num_rows();
        while self.next < n && self.take_in(&right, key, time)? {
            self.next += 1;
        }
        if self.next < n {
            self.right = Some(right);
            return Ok(true);
        }
        Ok(self.right_ended)
    }

    /// Takes in the next right row; false when it lies after the key and time.
    fn take_in(&mut self, right: &Side, key: Row<'_>, time: i128) -> Result<bool> {
        let i = self.next;
        let Some(right_time) = right.times[i] else { return Ok(true) };
        match right.keys.row(i).cmp(&key) {
            std::cmp::Ordering::Less => return Ok(true),
            std::cmp::Ordering::Greater => return Ok(false),
            std::cmp::Ordering::Equal if right_time > time || (self.spec.strict && right_time == time) => {
                return Ok(false);
            }
            std::cmp::Ordering::Equal => {}
        }
        let known = match &right.known {
            None => Some(i128::MIN),
            Some(known) => known[i],
        };
        if let Some(known) = known {
            self.admit(Candidate { at: (self.held.batches.len() - 1, i), time: right_time, known })?;
        }
        Ok(true)
    }

    /// Lets a row wait that is no earlier than all that wait, and drops those that it makes useless.
    fn admit(&mut self, new: Candidate) -> Result<()> {
        while let Some(&last) = self.waiting.back() {
            if last.known < new.known {
                break;
            }
            let tie = (last.time, last.known) == (new.time, new.known);
            if tie && self.held.ranks_above(&self.ranks, last.at, new.at)? {
                return Ok(());
            }
            self.waiting.pop_back();
        }
        self.waiting.push_back(new);
        Ok(())
    }

    /// Copies the right rows that are referred to into one batch and lets go of all others.
    ///
    /// # Errors
    /// More rows that wait than there is memory for.
    fn drop_unused(&mut self) -> Result<()> {
        let mut kept: Vec<At> = Vec::new();
        let mut keep = |at: &mut At| {
            if *at != NO_MATCH {
                if kept.last() != Some(at) {
                    kept.push(*at);
                }
                *at = Held::kept_at(kept.len() - 1);
            }
        };
        self.matches.iter_mut().for_each(&mut keep);
        self.best.iter_mut().chain(&mut self.waiting).for_each(|c| keep(&mut c.at));
        let bytes = self.held.keep(kept.into_iter())?;
        // What is not for waiting rows is a few batches, as in any operator that streams.
        let waiting = self.waiting.len() > self.batch_size;
        let state = self.waiting.capacity() * size_of::<Candidate>();
        self.memory.try_resize(if waiting { bytes + state } else { 0 })
    }
}

/// A right row that may be taken.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    at: At,
    time: i128,
    /// When it came to be known; the least number where all rows are.
    known: i128,
}

/// A batch with what is compared.
pub(super) struct Side {
    pub(super) batch: RecordBatch,
    pub(super) keys: Rows,
    /// The times of rows that can match: none where a key is null.
    pub(super) times: Vec<Option<i128>>,
    pub(super) known: Option<Vec<Option<i128>>>,
}

impl Side {
    pub(super) fn new(
        batch: RecordBatch,
        converter: &RowConverter,
        keys: &[usize],
        time: usize,
        known_at: Option<usize>,
    ) -> Result<Self> {
        let columns: Vec<ArrayRef> = keys.iter().map(|i| Arc::clone(batch.column(*i))).collect();
        let mut times = ticks(batch.column(time))?;
        for nulls in columns.iter().filter_map(|c| c.logical_nulls()) {
            times.iter_mut().zip(&nulls).filter(|(_, valid)| !valid).for_each(|(t, _)| *t = None);
        }
        let known = known_at.map(|i| ticks(batch.column(i))).transpose()?;
        Ok(Self { keys: converter.convert_columns(&columns)?, times, known, batch })
    }
}

/// How many rows a batch has of those that were kept.
const KEPT_ROWS: usize = 8192;

/// Right rows that are referred to: a row of nulls, then what was kept, then batches as they came.
pub(super) struct Held {
    batches: Vec<RecordBatch>,
    /// The rows of a batch as they rank, made when a tie first asks for them.
    ranks: Vec<Option<Rows>>,
    /// Of `ranks`.
    pub(super) rank_bytes: usize,
    /// Twice the rows that were kept last, so that the copies cost no more than what comes in between.
    limit: usize,
}

impl Held {
    pub(super) fn new(schema: &SchemaRef) -> Self {
        let fields = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true));
        let schema = Arc::new(arrow::datatypes::Schema::new(fields.collect::<Vec<_>>()));
        Self { batches: vec![RecordBatch::new_empty(schema)], ranks: vec![None], rank_bytes: 0, limit: 0 }
    }

    /// Takes a batch; gives its number.
    pub(super) fn push(&mut self, batch: RecordBatch) -> usize {
        self.batches.push(batch);
        self.ranks.push(None);
        self.batches.len() - 1
    }

    /// Lets go of the batch that came last, to which nothing refers.
    pub(super) fn pop(&mut self) {
        self.batches.pop();
        self.rank_bytes -= self.ranks.pop().flatten().map_or(0, |ranks| ranks.size());
    }

    pub(super) fn into_batches(mut self) -> Vec<RecordBatch> {
        self.batches.split_off(1)
    }

    fn rows(&self) -> usize {
        self.batches.iter().skip(1).map(RecordBatch::num_rows).sum()
    }

    /// The columns of the right rows, in the order given.
    pub(super) fn take(&self, rows: &[At]) -> Result<Vec<ArrayRef>> {
        let nulls = &self.batches[0];
        let column = |c: usize| -> Result<ArrayRef> {
            let null = new_null_array(nulls.column(c).data_type(), 1);
            let rest = self.batches[1..].iter().map(|b| b.column(c).as_ref());
            let arrays: Vec<&dyn Array> = std::iter::once(null.as_ref()).chain(rest).collect();
            Ok(without_unused_text(interleave(&arrays, rows)?))
        };
        (0..nulls.num_columns()).map(column).collect()
    }

    /// Where the row is that is number `i` of those that were kept.
    pub(super) fn kept_at(i: usize) -> At {
        (1 + i / KEPT_ROWS, i % KEPT_ROWS)
    }

    /// Keeps these rows, in their order, and no others; gives their bytes.
    pub(super) fn keep(&mut self, rows: impl Iterator<Item = At>) -> Result<usize> {
        let schema = self.batches[0].schema();
        let (mut rows, mut kept, mut n_kept) = (rows.peekable(), Vec::new(), 0);
        while rows.peek().is_some() {
            let some: Vec<At> = rows.by_ref().take(KEPT_ROWS).collect();
            n_kept += some.len();
            kept.push(RecordBatch::try_new(Arc::clone(&schema), self.take(&some)?)?);
        }
        self.batches.truncate(1);
        self.ranks.truncate(1);
        self.rank_bytes = 0;
        self.limit = 2 * n_kept;
        let bytes = kept.iter().map(get_record_batch_memory_size).sum();
        kept.into_iter().for_each(|batch| _ = self.push(batch));
        Ok(bytes)
    }

    /// Whether row `a` ranks above row `b` by all columns.
    pub(super) fn ranks_above(&mut self, converter: &RowConverter, a: At, b: At) -> Result<bool> {
        for i in [a.0, b.0] {
            if self.ranks[i].is_none() {
                let ranks = converter.convert_columns(self.batches[i].columns())?;
                self.rank_bytes += ranks.size();
                self.ranks[i] = Some(ranks);
            }
        }
        match (&self.ranks[a.0], &self.ranks[b.0]) {
            (Some(of_a), Some(of_b)) => Ok(of_a.row(a.1) > of_b.row(b.1)),
            _ => internal_err!("the ranks of an as-of join's rows were not made"),
        }
    }
}

/// Views keep the whole buffers that they point into; these have their own.
fn without_unused_text(array: ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Utf8View => Arc::new(array.as_string_view().gc()),
        DataType::BinaryView => Arc::new(array.as_binary_view().gc()),
        _ => array,
    }
}
