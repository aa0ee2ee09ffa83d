//! The join of a left side that is held with a right side that is taken as it comes.
//!
//! The times of a key's left rows cut time into slots, each of which ends at one of them. A right row can be taken by
//! the left rows from some time on: the slot where that time lies and all later ones. So of the right rows of one slot
//! only the one that ranks highest is ever taken, and once all have come, a pass over a key's slots carries the highest
//! so far along. Nothing of the right side is sorted, and of its rows no more than one for each left row must be kept.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use arrow::row::{RowConverter, SortField};
use datafusion::common::utils::memory::get_record_batch_memory_size;
use datafusion::common::{HashMap, Result};
use datafusion::execution::memory_pool::MemoryReservation;

use super::AsofSpec;
use super::merge::{At, Held};
use super::order::is_whole;
use super::time::{ShortTicks, units};

/// What a left row takes besides its columns: time, place, best match and, at the end, match.
const ROW_BYTES: usize = 48;

/// The fewest right rows that are worth looking for which of them are still of use.
const FEWEST_DROPPED: usize = if cfg!(test) { 1 } else { 1 << 16 };

/// How many right rows are looked up at the same time: few enough for what is noted of them to stay in the nearest cache.
const BLOCK_ROWS: usize = 512;

/// How often what is taken is reserved: a half goes to the sorts when they must take over.
pub(super) const SPARE: usize = 2;

/// The group of a row that matches nothing.
const NO_GROUP: u32 = u32::MAX;

/// The left rows that can match by key and time, and the best right row so far of each slot.
pub(super) struct Slots {
    spec: Arc<AsofSpec<usize>>,
    clock: ShortTicks,
    n_left: usize,
    keys: Keys,
    groups: Vec<Group>,
    /// By group and time.
    times: Vec<i64>,
    /// The place of each among all left rows.
    rows: Vec<u32>,
    best: Vec<Best>,
    /// Slots that have a right row.
    n_taken: usize,
    held: Held,
    n_held: usize,
    held_bytes: usize,
    ranks: RowConverter,
    /// The part of `memory` that is not for right rows.
    left_bytes: usize,
    memory: MemoryReservation,
}

/// The slots of a key.
#[derive(Debug, Clone, Copy)]
struct Group {
    start: u32,
    end: u32,
    first: i64,
    last: i64,
}

/// The right row of a slot that ranks highest.
#[derive(Debug, Clone, Copy)]
struct Best {
    time: i64,
    /// When it came to be known; the least number where that is no matter.
    known: i64,
    at: (u32, u32),
}

impl Best {
    const NONE: Self = Self { time: ShortTicks::NONE, known: ShortTicks::NONE, at: (0, 0) };

    fn is_some(&self) -> bool {
        self.at != Self::NONE.at
    }
}

/// A right row on its way to a slot.
struct Probe {
    new: Best,
    /// The first time at which it can be taken, no later than the last of the group.
    from: i64,
    group: Group,
    /// Where among all times the search starts.
    guess: u32,
}

impl Group {
    /// Where in the group a time would lie if they were spread evenly, as they often are.
    fn guess(&self, time: i64) -> u32 {
        let share = (time as f64 - self.first as f64) / (self.last as f64 - self.first as f64);
        let n = self.end - self.start;
        ((share * f64::from(n - 1)) as u32).min(n - 1)
    }
}

impl Probe {
    /// The first slot whose time is `from` or later. `near` is the time at the guess.
    fn slot(&self, near: i64, times: &[i64]) -> usize {
        let Group { start, end, .. } = self.group;
        let guess = (self.guess - start) as usize;
        start as usize + first_at(&times[start as usize..end as usize], self.from, guess, near)
    }
}

impl Slots {
    /// The slots of a left side, for which `memory` is reserved already; none where there is too little memory, times need
    /// more than 64 bits in one unit, or the right side has dictionaries.
    pub(super) fn new(
        spec: &Arc<AsofSpec<usize>>,
        left: &[RecordBatch],
        right: &SchemaRef,
        memory: MemoryReservation,
    ) -> Result<Option<Self>> {
        let n_left: usize = left.iter().map(RecordBatch::num_rows).sum();
        // Taking rows of many batches together costs time for each pair of their dictionaries.
        if right.fields().iter().any(|field| matches!(field.data_type(), DataType::Dictionary(..))) {
            return Ok(None);
        }
        if u32::try_from(n_left).is_err() || memory.try_grow(n_left * ROW_BYTES).is_err() {
            return Ok(None);
        }
        let of_right = |i: &usize| right.field(*i).data_type().clone();
        let mut times_of: Vec<DataType> = spec.known_at.iter().chain([&spec.right_time]).map(of_right).collect();
        times_of.extend(left.first().map(|batch| batch.column(spec.left_time).data_type().clone()));
        let clock = ShortTicks::of(&times_of);
        let mut keys = Keys::new(spec.on.iter().map(|(_, r)| of_right(r)).collect())?;
        let (mut groups, mut times) = (Vec::with_capacity(n_left), Vec::with_capacity(n_left));
        for batch in left {
            groups.extend(keys.groups(&columns(batch, spec.on.iter().map(|(l, _)| *l)), true)?);
            let Some(read) = clock.read(batch.column(spec.left_time))? else { return Ok(None) };
            times.extend(read);
        }
        if memory.try_grow(keys.bytes() + keys.len() * size_of::<Group>()).is_err() {
            return Ok(None);
        }
        let (groups, order) = in_order(&groups, &times, keys.len());
        drop(times);
        let (times, rows): (Vec<i64>, Vec<u32>) = order.into_iter().unzip();
        let field = |i: usize| SortField::new(right.field(i).data_type().clone());
        Ok(Some(Self {
            spec: Arc::clone(spec),
            clock,
            n_left,
            keys,
            groups,
            best: vec![Best::NONE; times.len()],
            times,
            rows,
            n_taken: 0,
            held: Held::new(right),
            n_held: 0,
            held_bytes: 0,
            ranks: RowConverter::new((0..right.fields().len()).map(field).collect())?,
            left_bytes: memory.size(),
            memory,
        }))
    }

    /// Takes a right batch; false where it is not taken, for want of memory or because a time needs more than 64 bits.
    pub(super) fn push(&mut self, batch: &RecordBatch) -> Result<bool> {
        let Some(times) = self.clock.read(batch.column(self.spec.right_time))? else { return Ok(false) };
        let known = match self.spec.known_at {
            None => None,
            Some(column) => match self.clock.read(batch.column(column))? {
                Some(known) => Some(known),
                None => return Ok(false),
            },
        };
        let bytes = get_record_batch_memory_size(batch);
        if !self.make_room(bytes)? {
            return Ok(false);
        }
        let groups = self.keys.groups(&columns(batch, self.spec.on.iter().map(|(_, r)| *r)), false)?;
        let number = self.held.push(batch.clone());
        let mut is_of_use = false;
        for start in (0..groups.len()).step_by(BLOCK_ROWS) {
            let rows = start..groups.len().min(start + BLOCK_ROWS);
            is_of_use |= self.offer_all(number as u32, rows, &groups, &times, known.as_deref())?;
        }
        if is_of_use {
            self.n_held += batch.num_rows();
            self.held_bytes += bytes;
        } else {
            self.held.pop();
        }
        Ok(true)
    }

    /// Offers some rows of a right batch; whether one is now the highest of a slot.
    ///
    /// Times and slots lie wherever the keys are, far apart. Step by step for all these rows, and not row by row, many are
    /// on their way from memory at the same time.
    fn offer_all(
        &mut self,
        batch: u32,
        rows: Range<usize>,
        groups: &[u32],
        times: &[i64],
        known: Option<&[i64]>,
    ) -> Result<bool> {
        let mut probes = Vec::with_capacity(rows.len());
        for row in rows {
            let (group, time) = (groups[row], times[row]);
            let known = known.map_or(Some(ShortTicks::NONE), |k| Some(k[row]).filter(|k| *k != ShortTicks::NONE));
            let (false, Some(known)) = (group == NO_GROUP || time == ShortTicks::NONE, known) else { continue };
            let Some(from) = time.checked_add(i64::from(self.spec.strict)).map(|from| from.max(known)) else {
                continue;
            };
            let group = self.groups[group as usize];
            if group.start < group.end && from <= group.last {
                let guess = group.start + group.guess(from);
                probes.push(Probe { new: Best { time, known, at: (batch, row as u32) }, from, group, guess });
            }
        }
        let near: Vec<i64> = probes.iter().map(|probe| self.times[probe.guess as usize]).collect();
        let slots = probes.iter().zip(near).map(|(probe, near)| probe.slot(near, &self.times));
        let slots: Vec<usize> = slots.collect();
        let old: Vec<i64> = slots.iter().map(|slot| self.best[*slot].time).collect();
        let mut is_of_use = false;
        for ((probe, slot), old) in probes.iter().zip(slots).zip(old) {
            if probe.new.time >= old {
                is_of_use |= self.offer(slot, probe.new)?;
            }
        }
        Ok(is_of_use)
    }

    /// Whether a right row is now the highest of its slot.
    fn offer(&mut self, slot: usize, new: Best) -> Result<bool> {
        let old = self.best[slot];
        let is_higher = match (new.time, new.known).cmp(&(old.time, old.known)) {
            std::cmp::Ordering::Equal => self.held.ranks_above(&self.ranks, wide(new.at), wide(old.at))?,
            order => order.is_gt(),
        };
        if is_higher {
            self.n_taken += usize::from(!old.is_some());
            self.best[slot] = new;
        }
        Ok(is_higher)
    }

    /// Reserves memory for the bytes of a right batch; drops right rows that are of no use any more when they are many or
    /// memory is short.
    fn make_room(&mut self, bytes: usize) -> Result<bool> {
        let fits = |slots: &Self| {
            let right = slots.held_bytes + slots.held.rank_bytes + bytes;
            slots.memory.try_resize(slots.left_bytes + SPARE * right).is_ok()
        };
        let n_unused = self.n_held - self.n_taken;
        if n_unused > self.n_taken.max(self.best.len() / 2).max(FEWEST_DROPPED) {
            self.drop_unused()?;
        }
        Ok(fits(self) || (n_unused > self.n_taken.max(self.best.len() / 8) && self.drop_unused()? && fits(self)))
    }

    /// Copies the right rows that can still be taken and lets go of all others; false where memory does not allow it.
    fn drop_unused(&mut self) -> Result<bool> {
        // While they are copied they are there twice.
        if self.memory.try_grow(self.held_bytes / self.n_held.max(1) * self.n_taken).is_err() {
            return Ok(false);
        }
        let kept = self.best.iter_mut().filter(|best| best.is_some()).enumerate().map(|(i, best)| {
            let (batch, row) = Held::kept_at(i);
            wide(std::mem::replace(&mut best.at, (batch as u32, row as u32)))
        });
        self.held_bytes = self.held.keep(kept)?;
        self.n_held = self.n_taken;
        Ok(true)
    }

    /// The right rows that can still be taken, and some that cannot.
    pub(super) fn into_right_rows(self) -> Vec<RecordBatch> {
        self.held.into_batches()
    }

    /// What each left row matches, once all right rows have come.
    pub(super) fn into_matches(self) -> Matches {
        let mut rows = vec![Best::NONE.at; self.n_left];
        for group in &self.groups {
            let mut best = Best::NONE;
            for slot in group.start as usize..group.end as usize {
                let of_slot = self.best[slot];
                if (of_slot.time, of_slot.known) > (best.time, best.known) {
                    best = of_slot;
                }
                let time = self.clock.wide(self.times[slot]);
                let near = |t: super::Tolerance| self.clock.wide(best.time) >= t.earliest(time);
                if best.is_some() && self.spec.tolerance.is_none_or(near) {
                    rows[self.rows[slot] as usize] = best.at;
                }
            }
        }
        Matches { rows, held: self.held, _memory: self.memory }
    }
}

/// The right row of each left row.
pub(super) struct Matches {
    rows: Vec<(u32, u32)>,
    held: Held,
    /// Of all this and of the left rows.
    _memory: MemoryReservation,
}

impl Matches {
    /// The columns of the right rows that match left rows `from` to `from + n`.
    pub(super) fn columns(&self, from: usize, n: usize) -> Result<Vec<ArrayRef>> {
        let rows: Vec<At> = self.rows[from..from + n].iter().map(|at| wide(*at)).collect();
        self.held.take(&rows)
    }
}

fn wide((batch, row): (u32, u32)) -> At {
    (batch as usize, row as usize)
}

fn columns(batch: &RecordBatch, positions: impl Iterator<Item = usize>) -> Vec<ArrayRef> {
    positions.map(|i| Arc::clone(batch.column(i))).collect()
}

/// The rows that can match by group and time, each with its time, and where those of each group lie.
fn in_order(groups: &[u32], times: &[i64], n_groups: usize) -> (Vec<Group>, Vec<(i64, u32)>) {
    let can_match = |row: &usize| groups[*row] != NO_GROUP && times[*row] != ShortTicks::NONE;
    let mut ends = vec![0; n_groups];
    (0..groups.len()).filter(can_match).for_each(|row| ends[groups[row] as usize] += 1_u32);
    let mut start = 0;
    for end in &mut ends {
        (*end, start) = (start, start + *end);
    }
    let mut order = vec![(0, 0); start as usize];
    for row in (0..groups.len()).filter(can_match) {
        let end = &mut ends[groups[row] as usize];
        order[*end as usize] = (times[row], row as u32);
        *end += 1;
    }
    let mut start = 0;
    let found = ends.into_iter().map(|end| {
        let rows = &mut order[start as usize..end as usize];
        rows.sort_unstable();
        let time = |row: Option<&(i64, u32)>| row.map_or(ShortTicks::NONE, |(time, _)| *time);
        let group = Group { start, end, first: time(rows.first()), last: time(rows.last()) };
        start = end;
        group
    });
    (found.collect(), order)
}

/// The first place of a time that is `from` or later, if any; the search goes out from a place with the time `near`.
fn first_at(times: &[i64], from: i64, guess: usize, near: i64) -> usize {
    let mut step = 4;
    let (low, high) = if near < from {
        let mut low = guess + 1;
        while low + step < times.len() && times[low + step] < from {
            low += step + 1;
            step *= 2;
        }
        (low, (low + step).min(times.len()))
    } else {
        let mut high = guess;
        while high >= step && times[high - step] >= from {
            high -= step;
            step *= 2;
        }
        (high.saturating_sub(step), high)
    };
    low + times[low..high].partition_point(|time| *time < from)
}

/// Keys by number, in the order in which they were entered.
enum Keys {
    /// One column of integers, booleans or times.
    Whole(HashMap<i64, u32>),
    /// Any columns, by the bytes of their rows.
    Rows(RowConverter, HashMap<Box<[u8]>, u32>),
}

impl Keys {
    fn new(types: Vec<DataType>) -> Result<Self> {
        Ok(match &types[..] {
            [one] if is_whole(one) && *one != DataType::UInt64 => Self::Whole(HashMap::default()),
            _ => Self::Rows(RowConverter::new(types.into_iter().map(SortField::new).collect())?, HashMap::default()),
        })
    }

    fn len(&self) -> usize {
        match self {
            Self::Whole(known) => known.len(),
            Self::Rows(_, known) => known.len(),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Whole(known) => known.capacity() * size_of::<(i64, u32)>(),
            Self::Rows(_, known) => {
                let of_keys: usize = known.keys().map(|key| key.len()).sum();
                of_keys + known.capacity() * size_of::<(Box<[u8]>, u32)>()
            }
        }
    }

    /// The number of each row's key; [`NO_GROUP`] where a column is null, or the key is new and is not entered.
    fn groups(&mut self, columns: &[ArrayRef], enters: bool) -> Result<Vec<u32>> {
        let nulls = columns.iter().fold(None, |nulls, c| NullBuffer::union(nulls.as_ref(), c.logical_nulls().as_ref()));
        let is_there = |row: &usize| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(*row));
        let rows = 0..columns.first().map_or(0, |c| c.len());
        Ok(match self {
            Self::Whole(known) => {
                let values = units(&columns[0])?;
                let values = values.as_primitive::<Int64Type>().values();
                let group = |row: usize| {
                    let next = known.len() as u32;
                    if enters { *known.entry(values[row]).or_insert(next) } else { found(known.get(&values[row])) }
                };
                numbered(rows, is_there, group)
            }
            Self::Rows(converter, known) => {
                let keys = converter.convert_columns(columns)?;
                let group = |row: usize| {
                    let (key, next) = (keys.row(row), known.len() as u32);
                    match known.get(key.as_ref()) {
                        None if enters => *known.entry(key.as_ref().into()).or_insert(next),
                        group => found(group),
                    }
                };
                numbered(rows, is_there, group)
            }
        })
    }
}

fn found(group: Option<&u32>) -> u32 {
    group.copied().unwrap_or(NO_GROUP)
}

fn numbered(rows: Range<usize>, is_there: impl Fn(&usize) -> bool, mut group: impl FnMut(usize) -> u32) -> Vec<u32> {
    rows.map(|row| if is_there(&row) { group(row) } else { NO_GROUP }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_found_however_times_are_spread() {
        let spreads: [fn(i64) -> i64; 4] = [|i| i, |i| i / 7, |i| i * i * i, |i| i64::MIN + 1 + (i << 54)];
        for spread in spreads {
            for n in [1, 2, 3, 10, 500] {
                let times: Vec<i64> = (0..n).map(spread).collect();
                let group = Group { start: 0, end: n as u32, first: times[0], last: times[times.len() - 1] };
                let around = times.iter().flat_map(|t| [t.saturating_sub(1), *t, t.saturating_add(1)]);
                for from in around {
                    let expected = times.partition_point(|t| *t < from);
                    for guess in [0, group.guess(from) as usize, times.len() - 1] {
                        assert_eq!(first_at(&times, from, guess, times[guess]), expected, "{from} in {times:?}");
                    }
                }
            }
        }
    }
}
